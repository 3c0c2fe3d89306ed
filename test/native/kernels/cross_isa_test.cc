// The same bits on every kind of processor: each kernel of each level on a fixed problem, its results hashed
// and compared with constants. The other tests compare the levels of one machine; a constant is what x86 and
// ARM have in common.
//
// Nothing here may depend on a library: the inputs are integers of a generator written out below, made floats
// exactly. A kernel whose order of summation was changed on purpose (docs/numerics.md) gets new constants;
// the failure prints them.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <set>
#include <type_traits>

#include "core/float_bits.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

/// SplitMix64 (Steele, Lea & Flood 2014).
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// n numbers in (-1, 1) * 2^power, many of them small.
  std::vector<float> floats(std::int64_t n, int power = 0) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& x : v) {
      const std::uint64_t b = bits();
      const auto integer = static_cast<std::int32_t>(b >> 40) - (1 << 23);
      x = std::ldexp(static_cast<float>(integer), power - 23 - static_cast<int>(b & 3));
    }
    return v;
  }

 private:
  std::uint64_t state_;
};

/// FNV-1a, 64 bits, over the bytes of values as they lie in memory (little endian on all our machines).
class Hash {
 public:
  void add(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    for (std::size_t i = 0; i < bytes; i++) value_ = (value_ ^ p[i]) * 0x100000001b3u;
  }
  template <class T>
  void add(const std::vector<T>& v) {
    add(v.data(), v.size() * sizeof(T));
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

void check(const std::string& what, std::uint64_t found, std::uint64_t expected) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(found));
  CHECK_MESSAGE(found == expected, what << ": found " << text);
}

std::int64_t cols_of(DType dtype) {
  return traits_of(dtype).block_size == 1 ? 531 : 768;  // float rows with a tail
}

/// Types whose problem is random blocks, whether or not there is a quantizer for them.
const std::set<DType> kRandomBlocks = {
    DType::iq1_s, DType::iq1_m, DType::iq2_xxs, DType::iq2_xs, DType::iq2_s, DType::iq3_xxs, DType::iq3_s,
    DType::tq1_0, DType::tq2_0, DType::mxfp4,   DType::nvfp4,  DType::q1_0,  DType::q2_0};

struct FixedMatrix {
  DType dtype;
  std::int64_t rows, cols;
  std::vector<std::uint8_t> bytes;

  FixedMatrix(DType type, std::int64_t n_rows, std::uint64_t which = 0)
      : dtype(type), rows(n_rows), cols(cols_of(type)) {
    Numbers numbers(static_cast<std::uint64_t>(type) + 1 + 1000 * which);
    const std::size_t row = row_bytes(type, static_cast<std::size_t>(cols));
    bytes.resize(row * static_cast<std::size_t>(rows));
    if (kRandomBlocks.count(type) > 0) {
      fill_blocks(numbers);
      return;
    }
    for (std::int64_t r = 0; r < rows; r++)
      quantize_row(type, numbers.floats(cols).data(), bytes.data() + row * static_cast<std::size_t>(r), cols);
  }

 private:
  /// Random blocks with float scales of moderate size.
  void fill_blocks(Numbers& numbers) {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(numbers.bits() >> 32);
    visit_dtype(dtype, [&](auto format) {
      using Block = typename decltype(format)::Block;
      for (std::size_t at = 0; at < bytes.size(); at += sizeof(Block)) {
        auto& block = reinterpret_cast<Block&>(bytes[at]);
        const auto random = static_cast<unsigned>(numbers.bits() >> 32);
        if constexpr (requires { block.d; }) block.d = static_cast<std::uint16_t>(0x2000 + random % 0x1000);
        if constexpr (requires { block.e; }) block.e = static_cast<std::uint8_t>(118 + random % 8);
        if constexpr (std::is_same_v<Block, BlockIQ1_M>)
          block.scales[3] = static_cast<std::uint16_t>((block.scales[3] & 0xfff) | 0x2000);
      }
    });
  }
};

std::vector<float> product(const CpuKernels& kernels, const FixedMatrix& w, std::int64_t n_tokens,
                           bool repack) {
  return multiply(kernels, w, Numbers(77).floats(n_tokens * w.cols, 2).data(), n_tokens, repack);
}

// ---- the kernels, each on its problem ----

constexpr std::int64_t kCount = 1003;

void rms_norm(const CpuKernels& kernels, Hash& hash) {
  const std::vector<float> x = Numbers(1).floats(kCount, 3), weight = Numbers(2).floats(kCount);
  std::vector<float> y(x.size());
  kernels.rms_norm(x.data(), weight.data(), 1e-5f, y.data(), kCount);
  hash.add(y);
}

void rope(const CpuKernels& kernels, Hash& hash) {
  const std::vector<float> cos = Numbers(3).floats(40), sin = Numbers(4).floats(40);
  for (const bool half_layout : {false, true}) {
    std::vector<float> x = Numbers(5).floats(3 * 88);
    const RopeRow row{cos.data(), sin.data(), 80, 88, 3, half_layout};
    kernels.rope(x.data(), &row);
    hash.add(x);
  }
}

void silu_mul(const CpuKernels& kernels, Hash& hash) {
  std::vector<float> y(static_cast<std::size_t>(kCount));
  for (const int power : {-30, 0, 4, 7}) {
    const std::vector<float> gate = Numbers(6).floats(kCount, power), up = Numbers(7).floats(kCount);
    kernels.silu_mul(gate.data(), up.data(), y.data(), kCount);
    hash.add(y);
  }
}

constexpr int kActivationPowers[] = {-120, -10, 0, 30};

void quantize_q8_0(const CpuKernels& kernels, Hash& hash) {
  for (const int power : kActivationPowers) {
    std::vector<float> x = Numbers(8).floats(512, power);
    std::fill(x.begin() + 64, x.begin() + 96, 0.0f);
    std::fill(x.begin() + 96, x.begin() + 128, float_from_bits(700));  // so small that 1 / d is infinite
    // A scale of one, and halves, which round away from zero.
    for (std::size_t i = 0; i < 32; i++) x[128 + i] = static_cast<float>(i) - 15.5f;
    x[128] = 127.0f;
    if (power == 30) {
      x[200] = NAN;
      x[300] = INFINITY;
    }
    std::vector<std::int8_t> q(512);
    std::vector<float> scale(16), sum(16);
    std::vector<std::int16_t> sums16(32);
    kernels.quantize_q8_0(x.data(), q.data(), scale.data(), sum.data(), sums16.data(), 512);
    hash.add(q);
    hash.add(scale);
    hash.add(sum);
    hash.add(sums16);
  }
}

void quantize_q8_k(const CpuKernels& kernels, Hash& hash) {
  for (const int power : kActivationPowers) {
    std::vector<float> x = Numbers(9).floats(1280, power);
    std::fill(x.begin(), x.begin() + 256, float_from_bits(700));
    std::fill(x.begin() + 256, x.begin() + 512, 0.0f);
    // A scale of one, and halves, which round to even.
    for (std::size_t i = 0; i < 256; i++) x[1024 + i] = 0.5f * static_cast<float>(i) - 64.0f;
    x[1024] = 127.0f;
    if (power == 30) {
      x[600] = NAN;
      x[800] = INFINITY;
    }
    std::vector<std::int8_t> q(1280);
    std::vector<float> scale(5);
    std::vector<std::int16_t> sums16(80), max_abs_sum16(5);
    kernels.quantize_q8_k(x.data(), q.data(), scale.data(), sums16.data(), max_abs_sum16.data(), 1280);
    hash.add(q);
    hash.add(scale);
    hash.add(sums16);
  }
}

void round_to_16_bits(const CpuKernels& kernels, Hash& hash) {
  for (int power = -26; power <= 18;
       power++) {  // from below the smallest subnormal half to beyond the largest one
    const std::vector<float> x = Numbers(10).floats(kCount, power);
    std::vector<float> half(x.size());
    std::vector<std::uint16_t> bf16(x.size());
    kernels.round_f16(x.data(), half.data(), kCount);
    kernels.round_bf16(x.data(), bf16.data(), kCount);
    hash.add(half);
    hash.add(bf16);
  }
}

void gate_up(const CpuKernels& kernels, Hash& hash) {
  const FixedMatrix gate(DType::q4_k, 21), up(DType::q6_k, 21);
  const std::int64_t n = 5;
  const std::vector<float> x = Numbers(77).floats(n * gate.cols, 2);
  std::vector<float> y(static_cast<std::size_t>(n * gate.rows));
  ThreadPool pool(1);
  ActivationBuffer buffer;
  const ActivationRows acts = buffer.prepare(kernels, pool, DType::q4_k, x.data(), n, gate.cols);
  Scratch gate_matrix = repacked(kernels, gate.dtype, gate.rows, gate.cols, gate.bytes.data());
  const MatmulRows g{gate_matrix.data(), gate.dtype, true, gate.rows, gate.cols, acts, n,
                     y.data(),           gate.rows,  false};
  const MatmulRows u{up.bytes.data(), up.dtype, false, up.rows, up.cols, acts, n, nullptr, up.rows, false};
  Scratch scratch(kernels.matmul_scratch_bytes(gate.dtype, n) + kernels.matmul_scratch_bytes(up.dtype, n));
  kernels.gate_up(&g, &u, 0, gate.rows, scratch.data());
  hash.add(y);
}

// The whole op: its routing belongs to no level, but lies between kernels.
void experts(const CpuKernels& kernels, Hash& hash) {
  const ExpertShape shape{.n_experts = 5, .n_used = 2, .hidden = 768, .ffn_hidden = 531};
  const std::int64_t n = 7;
  const FixedMatrix router(DType::q8_0, shape.n_experts);
  std::vector<FixedMatrix> matrices;
  for (std::uint64_t e = 0; e < 5; e++) {
    matrices.emplace_back(DType::q4_k, shape.ffn_hidden, e);
    matrices.emplace_back(DType::q5_1, shape.ffn_hidden, e);
    matrices.emplace_back(DType::f16, shape.hidden, e);
  }
  const auto weight = [](const FixedMatrix& m) {
    return Weight{.data = m.bytes.data(), .dtype = m.dtype, .rows = m.rows, .cols = m.cols};
  };
  const std::vector<float> norm = Numbers(13).floats(shape.hidden);
  LayerWeights weights;
  weights.ffn_norm = {.data = norm.data(), .dtype = DType::f32, .rows = 1, .cols = shape.hidden};
  weights.router = weight(router);
  for (std::size_t i = 0; i < matrices.size(); i += 3)
    weights.experts.push_back(
        {.gate = weight(matrices[i]), .up = weight(matrices[i + 1]), .down = weight(matrices[i + 2])});
  std::vector<float> x = Numbers(14).floats(n * shape.hidden, 1);
  ThreadPool pool(1);
  CpuOps(kernels, pool)
      .experts({.n_tokens = n, .weights = &weights, .shape = shape, .rms_norm_eps = 1e-5f, .x = x.data()});
  hash.add(x);
}

// The logarithm is the C library's, the choice is ours.
void sample(const CpuKernels& kernels, Hash& hash) {
  for (const std::int64_t size : {std::int64_t{1}, std::int64_t{17}, kCount}) {
    const std::vector<float> logits = Numbers(11).floats(size, 4);
    std::uint32_t id = 0;
    float log_sum_exp = 0;
    kernels.argmax(logits.data(), size, &id, &log_sum_exp);
    hash.add(&id, sizeof id);
  }
}

struct Partial {
  std::vector<float> max, sum, out;
  SoftmaxState state(std::int32_t out_stride) {
    return {.max = max.data(), .sum = sum.data(), .out = out.data(), .out_stride = out_stride};
  }
  void add_to(Hash& hash) const {
    hash.add(max);
    hash.add(sum);
    hash.add(out);
  }
};

void attention(const CpuKernels& kernels, Hash& hash) {
  const std::int32_t group = 7, n = 70, table[] = {2, 0, 1};
  for (const std::int32_t dim : {20, 64}) {
    for (const bool f32 : {false, true}) {
      const std::size_t stride = kv_block_elements(dim) * (f32 ? 4 : 2);
      std::vector<std::uint8_t> pages(stride * std::size(table));
      Numbers numbers(12);
      for (std::int32_t t = 0; t < n; t++) {
        const std::vector<float> k = numbers.floats(dim), v = numbers.floats(dim);
        std::uint8_t* block = pages.data() + stride * static_cast<std::size_t>(table[t / kCpuPageTokens]);
        kernels.append_kv(k.data(), v.data(), dim, block, t % kCpuPageTokens, f32);
      }
      hash.add(pages);
      const std::vector<float> q = numbers.floats(group * dim, 2);
      const std::int32_t padded = padded_head_dim(dim);
      const auto attend = [&](std::int32_t count) {
        const std::vector<float> heads(group);
        Partial p{heads, heads, std::vector<float>(static_cast<std::size_t>(group * padded))};
        const AttendSpan span{.q = q.data(),
                              .q_token_stride = 0,
                              .n_queries = 1,
                              .group = group,
                              .head_dim = dim,
                              .scale = 0.125f,
                              .pages = pages.data(),
                              .page_stride = stride,
                              .block_table = table,
                              .n_tokens = count,
                              .max_tokens = count,
                              .kv_f32 = f32,
                              .state = p.state(padded)};
        kernels.attend(&span);
        p.add_to(hash);
        return p;
      };
      Partial a = attend(n);
      Partial b = attend(33);
      const SoftmaxState state = a.state(padded), later = b.state(padded);
      kernels.merge_softmax(&state, &later, group, dim);
      a.add_to(hash);
    }
  }
}

struct ExpectedKernel {
  const char* name;
  void (*run)(const CpuKernels&, Hash&);
  std::uint64_t hash;
};
constexpr ExpectedKernel kExpectedKernels[] = {
    {"rms_norm", rms_norm, 0x678b4ecd215235df},
    {"rope", rope, 0xdfcf9cc584dd2c5b},
    {"silu_mul", silu_mul, 0xbbd48fda5f86ce17},
    {"quantize_q8_0", quantize_q8_0, 0x9d65fb88ea350286},
    {"quantize_q8_k", quantize_q8_k, 0x855c2873c0700f82},
    {"round_to_16_bits", round_to_16_bits, 0xe192b6cb70a4a5f9},
    {"gate_up", gate_up, 0x73ecafc480a55acc},
    {"experts", experts, 0xc1d35b568d6e61fa},
    {"sample", sample, 0x9fb0a0ef0fa52c6d},
    {"attention", attention, 0x2a039a84fd3f5f4c},
};

struct ExpectedProducts {
  DType dtype;
  std::uint64_t weights, products;
};
constexpr ExpectedProducts kExpectedProducts[] = {
    {DType::f32, 0x75bfc14c0f7c6279, 0x4a28fc76488a7e7b},
    {DType::f16, 0x2464f9e3fb086f7f, 0xeef2df4f7edf84c1},
    {DType::bf16, 0xc449e42a73f79cc1, 0x4565c853c09f47e9},
    {DType::q8_0, 0x3069055c33fe0bd5, 0x5e83dcadcd28173a},
    {DType::q4_0, 0x576c9773ec696662, 0x9c8d12bccc1bc751},
    {DType::q4_1, 0xbe6132991067b0e7, 0x7907550e79bd2990},
    {DType::q5_0, 0xcdf889e95759a9b8, 0xabf673ccd72f24d5},
    {DType::q5_1, 0x37942087d341f29f, 0x619ccd0c45912e10},
    {DType::q2_k, 0x2cc759f951ec7790, 0x8a835109877b74bb},
    {DType::q3_k, 0xaaa035168c26d987, 0x581cf764691b5943},
    {DType::q4_k, 0x8eb565eb531d7035, 0x1b9f4fdc86d0e421},
    {DType::q5_k, 0xe1011a59cd78aa2e, 0x5c96f33aa3316447},
    {DType::q6_k, 0x477b7a273631ed45, 0xbe737dd56f77300a},
    {DType::iq4_nl, 0xe4103f7c5afed650, 0xfa4f4a527c911a29},
    {DType::iq4_xs, 0x36c65a5a38bfb199, 0x3e02585d0335021c},
    {DType::iq1_s, 0x7c05ce8754e397a7, 0x25dd6a2848a39ddb},
    {DType::iq1_m, 0xe2488cb6a3f1fa73, 0x5f4dd8c1043530eb},
    {DType::iq2_xxs, 0xf63438dab70d0a73, 0xcdd71fdf67fe8534},
    {DType::iq2_xs, 0x90c1c395210cbc07, 0x914452d755e4a9f6},
    {DType::iq2_s, 0x5f4a3eee89fcd7f1, 0x80e82d466e8f71d8},
    {DType::iq3_xxs, 0x7e9f398fe8be49cc, 0x9c5ffb36e915dda3},
    {DType::iq3_s, 0x049903e3807f4a63, 0x597b94246400ecf1},
    {DType::tq1_0, 0x64952f06361e31be, 0x5597f0a9cb9233b3},
    {DType::tq2_0, 0x664a1169758f0061, 0xea023bd41abce22f},
    {DType::mxfp4, 0xfafe661cf35c1875, 0x5627bedaea1c493f},
    {DType::nvfp4, 0x83eaf94cd8b38778, 0xfa94df4091526db8},
    {DType::q1_0, 0x3514b4554f41ae89, 0x916bbca7387f5ae5},
    {DType::q2_0, 0x7c602a65ffe7a0b4, 0x48c171db02ca2c84},
};

}  // namespace

TEST_CASE("the same bits on every processor: weights of every type and their products") {
  static_assert(std::size(kExpectedProducts) == std::size(kWeightTypes));
  for (const ExpectedProducts& expected : kExpectedProducts) {
    const FixedMatrix w(expected.dtype, 21);
    const std::string name(name_of(expected.dtype));
    Hash weights;
    weights.add(w.bytes);
    std::vector<float> values(static_cast<std::size_t>(w.rows * w.cols));
    dequantize_row(w.dtype, w.bytes.data(), values.data(), w.rows * w.cols);
    weights.add(values);
    check(name + " weights", weights.value(), expected.weights);
    for (const CpuKernels* level : runnable_levels()) {
      Hash products, repacked;
      for (const std::int64_t n : {1, 3, 9}) {
        products.add(product(*level, w, n, false));
        repacked.add(product(*level, w, n, true));
      }
      check(name + " products, " + level->isa, products.value(), expected.products);
      check(name + " repacked, " + level->isa, repacked.value(), expected.products);
    }
  }
}

TEST_CASE("the same bits on every processor: the other kernels") {
  for (const ExpectedKernel& expected : kExpectedKernels) {
    for (const CpuKernels* level : runnable_levels()) {
      Hash hash;
      expected.run(*level, hash);
      check(std::string(expected.name) + ", " + level->isa, hash.value(), expected.hash);
    }
  }
}
