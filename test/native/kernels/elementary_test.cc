// The elementary ops through the backend, as scripts call them: float64 references, equal bits at every
// level, with any number of threads, in place and past the cache; and the fused ops against the pieces they
// are made of.
#include "kernels/elementary.h"

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/float_bits.h"
#include "core/rope_frequencies.h"
#include "kernels/backend.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

struct Device {
  std::unique_ptr<Backend> backend;
  explicit Device(const std::string& isa, int threads = 2)
      : backend(create_backend({.device = "cpu", .threads = threads, .isa = isa})) {}
  ElementaryOps& ops() const { return backend->elementary(); }
};

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const CpuKernels* level : runnable_levels()) names.emplace_back(level->isa);
  return names;
}

/// float32 in a tensor's memory: aligned as tensors are.
struct Floats {
  TensorMemory memory;
  float* data;
  std::size_t n;
  explicit Floats(std::size_t count) : memory(allocate_host(count * 4)), n(count) {
    data = reinterpret_cast<float*>(memory.data);
  }
  explicit Floats(const std::vector<float>& v) : Floats(v.size()) { std::copy(v.begin(), v.end(), data); }
  std::vector<float> values() const { return {data, data + n}; }
};

/// op(ops, input, output) at every level, in place and not, with one and two threads: the same bits, near
/// `expected`.
template <class Op>
void check_elementwise(const std::vector<float>& x, const std::vector<double>& expected, double tolerance,
                       Op op) {
  std::vector<float> first;
  for (const std::string& isa : levels())
    for (const int threads : {1, 2})
      for (const bool in_place : {false, true}) {
        CAPTURE(isa);
        CAPTURE(in_place);
        const Device device(isa, threads);
        Floats in(x), out(x.size());
        op(device.ops(), in.data, in_place ? in.data : out.data);
        const std::vector<float> y = in_place ? in.values() : out.values();
        if (first.empty()) {
          first = y;
          CHECK(relative_error(y, expected) < tolerance);
        }
        CHECK(same_bits(y, first));
      }
}

}  // namespace

TEST_CASE("elementary: rms_norm and add_rms_norm, small and past the cache") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{3, 37}, {1, 4096}, {300, 4096}}) {
    CAPTURE(cols);
    const auto n = static_cast<std::size_t>(rows * cols);
    const std::vector<float> x = random_floats(rng, n), y = random_floats(rng, n),
                             weight = random_floats(rng, static_cast<std::size_t>(cols));
    for (const bool add : {false, true}) {
      CAPTURE(add);
      std::vector<double> expected(n);
      for (std::int64_t r = 0; r < rows; r++) {
        double squares = 0;
        const auto at = [&](std::int64_t c) {
          const auto i = static_cast<std::size_t>(r * cols + c);
          return static_cast<double>(add ? x[i] + y[i] : x[i]);
        };
        for (std::int64_t c = 0; c < cols; c++) squares += at(c) * at(c);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (std::int64_t c = 0; c < cols; c++)
          expected[static_cast<std::size_t>(r * cols + c)] =
              at(c) * scale * weight[static_cast<std::size_t>(c)];
      }
      check_elementwise(x, expected, 1e-6, [&](ElementaryOps& ops, float* in, float* out) {
        if (add)
          ops.add_rms_norm({rows, cols, in, y.data(), weight.data(), 1e-5f, out});
        else
          ops.rms_norm({rows, cols, in, weight.data(), 1e-5f, out});
      });
    }
  }
}

TEST_CASE("elementary: add_rms_norm keeps the sum") {
  CRIA_SEEDED_RNG(rng);
  const Device device("");
  Floats x(random_floats(rng, 300 * 4096)), out(300 * 4096);
  const std::vector<float> before = x.values(), y = random_floats(rng, before.size()), weight(4096, 1.0f);
  device.ops().add_rms_norm({300, 4096, x.data, y.data(), weight.data(), 0, out.data});
  for (std::size_t i = 0; i < x.n; i++) REQUIRE(float_bits(x.data[i]) == float_bits(before[i] + y[i]));
}

TEST_CASE("elementary: rope in both layouts, small and past the cache") {
  CRIA_SEEDED_RNG(rng);
  struct Shape {
    std::int64_t tokens;
    std::int32_t heads, dim, rope_dim;
  };
  for (const Shape s :
       {Shape{3, 5, 22, 14}, Shape{2, 3, 64, 64}, Shape{300, 32, 128, 128}, Shape{300, 32, 128, 96}})
    for (const bool half_layout : {false, true}) {
      CAPTURE(s.dim);
      CAPTURE(half_layout);
      const std::int32_t half = s.rope_dim / 2;
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(s.tokens * s.heads * s.dim));
      std::vector<float> cos(static_cast<std::size_t>(s.tokens * half)), sin(cos.size());
      std::vector<std::int32_t> positions;
      for (std::int64_t t = 0; t < s.tokens; t++) positions.push_back(static_cast<std::int32_t>(7 * t));
      rope_angles(positions, rope_inverse_frequencies(10000, s.rope_dim, {}), 1, cos.data(), sin.data());
      std::vector<double> expected(x.begin(), x.end());
      for (std::int64_t t = 0; t < s.tokens; t++)
        for (std::int32_t h = 0; h < s.heads; h++)
          for (std::int32_t i = 0; i < half; i++) {
            const auto at = static_cast<std::size_t>((t * s.heads + h) * s.dim);
            const std::size_t a = at + static_cast<std::size_t>(half_layout ? i : 2 * i),
                              b = a + static_cast<std::size_t>(half_layout ? half : 1);
            const double c = cos[static_cast<std::size_t>(t * half + i)],
                         d = sin[static_cast<std::size_t>(t * half + i)];
            expected[a] = x[a] * c - x[b] * d;
            expected[b] = x[a] * d + x[b] * c;
          }
      check_elementwise(x, expected, 1e-6, [&](ElementaryOps& ops, float* in, float* out) {
        ops.rope({s.tokens, s.heads, s.dim, s.rope_dim, half_layout, in, cos.data(), sin.data(), out});
      });
    }
}

TEST_CASE("elementary: silu_mul and softmax, small and past the cache") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 131}, {300, 4096}, {9, 131072}}) {
    CAPTURE(cols);
    const auto n = static_cast<std::size_t>(rows * cols);
    const std::vector<float> x = random_floats(rng, n, 4.0f), up = random_floats(rng, n);
    std::vector<double> gated(n), probabilities(n);
    for (std::size_t i = 0; i < n; i++)
      gated[i] = static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i]))) * up[i];
    for (std::size_t r = 0; r < n; r += static_cast<std::size_t>(cols)) {
      const auto end = r + static_cast<std::size_t>(cols);
      double top = -INFINITY, sum = 0;
      for (std::size_t i = r; i < end; i++) top = std::max(top, static_cast<double>(x[i]));
      for (std::size_t i = r; i < end; i++) sum += probabilities[i] = std::exp(x[i] - top);
      for (std::size_t i = r; i < end; i++) probabilities[i] /= sum;
    }
    check_elementwise(x, gated, 1e-6, [&](ElementaryOps& ops, float* in, float* out) {
      ops.silu_mul({static_cast<std::int64_t>(n), in, up.data(), out});
    });
    check_elementwise(
        x, probabilities, 1e-6,
        [&, r = rows, c = cols](ElementaryOps& ops, float* in, float* out) { ops.softmax({r, c, in, out}); });
  }
}

TEST_CASE("elementary: softmax shows what is not a number, and gives nothing to -infinity") {
  for (const std::string& isa : levels()) {
    CAPTURE(isa);
    const Device device(isa);
    for (const std::size_t at : {0u, 20u, 34u})
      for (const float bad : {NAN, INFINITY}) {
        std::vector<float> x(35, 1.0f), y(35);
        x[at] = bad;
        device.ops().softmax({1, 35, x.data(), y.data()});
        for (const float v : y) CHECK(std::isnan(v));
        x[at] = -INFINITY;
        device.ops().softmax({1, 35, x.data(), y.data()});
        for (std::size_t i = 0; i < 35; i++) CHECK(y[i] == doctest::Approx(i == at ? 0.0 : 1.0 / 34));
      }
    // A NaN after an infinity in the same lane, and a maximum far below 0 before a tail.
    std::vector<float> both(67, 1.0f), low(35, -1000.0f);
    both[3] = INFINITY;
    both[19] = NAN;
    device.ops().softmax({1, 67, both.data(), both.data()});
    for (const float v : both) CHECK(std::isnan(v));
    device.ops().softmax({1, 35, low.data(), low.data()});
    for (const float v : low) CHECK(v == doctest::Approx(1.0 / 35));
    std::vector<float> none(35, -INFINITY);
    device.ops().softmax({1, 35, none.data(), none.data()});
    CHECK(std::isnan(none[0]));
    // Past the cache, where rows overlap: the others are not touched by it.
    const std::int64_t rows = 66, cols = 16384;
    const TensorMemory in = device.ops().allocate(rows * cols * sizeof(float)),
                       out = device.ops().allocate(rows * cols * sizeof(float));
    auto* const values = reinterpret_cast<float*>(in.data);
    auto* const results = reinterpret_cast<float*>(out.data);
    values[40 * cols + 5] = NAN;
    device.ops().softmax({rows, cols, values, results});
    for (std::int64_t i = 0; i < rows * cols; i++)
      REQUIRE((i / cols == 40 ? std::isnan(results[i]) : results[i] == 1.0f / cols));
  }
}

TEST_CASE("elementary: a layer of pieces gives the bits of the fused ops") {
  CRIA_SEEDED_RNG(rng);
  const std::int64_t n = 5, hidden = 256, ffn = 512;
  for (const std::string& isa : levels())
    for (const DType type : {DType::f32, DType::bf16, DType::q4_k, DType::q8_0}) {
      CAPTURE(isa);
      CAPTURE(name_of(type));
      const Device device(isa);
      const TestMatrix gate(rng, type, ffn, hidden), up(rng, type, ffn, hidden);
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * hidden)),
                               norm = random_floats(rng, static_cast<std::size_t>(hidden));
      LayerWeights layer;
      layer.ffn_norm = {norm.data(), DType::f32, 1, hidden};
      layer.gate = {gate.bytes.data(), type, ffn, hidden};
      layer.up = {up.bytes.data(), type, ffn, hidden};
      std::vector<float> fused(static_cast<std::size_t>(n * ffn)), g(fused), u(fused), normed(x.size());
      device.backend->ops().swiglu({static_cast<std::int32_t>(n), &layer, 1e-5f, x.data(), fused.data()});
      ElementaryOps& ops = device.ops();
      ops.rms_norm({n, hidden, x.data(), norm.data(), 1e-5f, normed.data()});
      ops.matmul({n, layer.gate, normed.data(), g.data(), false});
      ops.matmul({n, layer.up, normed.data(), u.data(), false});
      ops.silu_mul({n * ffn, g.data(), u.data(), g.data()});
      CHECK(same_bits(g, fused));
    }
}

TEST_CASE("elementary: keys and values go into pages and come back") {
  CRIA_SEEDED_RNG(rng);
  for (const std::string& isa : levels())
    for (const DType type : {DType::f32, DType::f16})
      for (const std::int32_t dim : {8, 20, 64}) {
        const Device device(isa);
        AttentionShape shape;
        shape.n_heads = shape.n_kv_heads = 3;
        shape.head_dim = dim;
        const std::int32_t pages = 2, page_tokens = device.backend->info().page_tokens;
        const std::size_t page = device.backend->kv().page_bytes(shape, type);
        const TensorMemory memory = device.ops().allocate(page * pages);
        const auto n = static_cast<std::size_t>(pages * 3 * page_tokens * dim);
        std::vector<float> k = random_floats(rng, n), v = random_floats(rng, n), k2(n), v2(n);
        if (type == DType::f16)
          for (std::vector<float>* values : {&k, &v})
            for (float& f : *values) f = f16_to_f32(f32_to_f16(f));
        const KvLayer kv{memory.data, page, type, page_tokens};
        device.ops().write_kv({shape, kv, pages, k.data(), v.data()});
        device.ops().read_kv({shape, kv, pages, k2.data(), v2.data()});
        CHECK(same_bits(k, k2));
        CHECK(same_bits(v, v2));
      }
}

TEST_CASE("rope frequencies: scalings against their definitions") {
  const auto near = [](const std::vector<float>& a, const std::vector<double>& b) {
    CHECK(relative_error(a, b) < 1e-7);
  };
  std::vector<double> plain, linear;
  for (int i = 0; i < 64; i++) {
    plain.push_back(std::pow(500000.0, -i / 64.0));
    linear.push_back(plain.back() / 4);
  }
  near(rope_inverse_frequencies(500000, 128, {}), plain);
  near(rope_inverse_frequencies(500000, 128, {.kind = RopeScaling::Kind::linear, .factor = 4}), linear);
  // Llama 3.1: short waves stay, long ones are eight times slower.
  const auto llama3 = rope_inverse_frequencies(500000, 128,
                                               {.kind = RopeScaling::Kind::llama3,
                                                .factor = 8,
                                                .low_freq_factor = 1,
                                                .high_freq_factor = 4,
                                                .original_context = 8192});
  CHECK(llama3[0] == 1.0f);
  CHECK(llama3[63] == doctest::Approx(plain[63] / 8));
  CHECK(std::is_sorted(llama3.rbegin(), llama3.rend()));
  // YaRN: 32 rotations within 4096 tokens at 4096 / 64 pi, below dimension 20.9 of 64 (base 10000); 1
  // above 45.0.
  const RopeScaling scaling{.kind = RopeScaling::Kind::yarn, .factor = 16, .original_context = 4096};
  const auto yarn = rope_inverse_frequencies(10000, 128, scaling);
  for (int i = 0; i < 64; i++) {
    const double frequency = std::pow(10000.0, -i / 64.0),
                 ramp = std::clamp((i - 20) / (46.0 - 20), 0.0, 1.0);
    CHECK(yarn[static_cast<std::size_t>(i)] ==
          doctest::Approx(frequency / 16 * ramp + frequency * (1 - ramp)));
  }
  CHECK(rope_magnitude(scaling) == doctest::Approx(1.2772588722239782));
  CHECK(rope_magnitude({}) == 1);
}

TEST_CASE("elementary: an unknown level is refused, a small tensor is aligned and zero") {
  CHECK_THROWS_WITH_AS(create_backend({.device = "cpu", .isa = "avx9"}), doctest::Contains("found 'avx9'"),
                       Error);
  const TensorMemory memory = allocate_host(100);
  CHECK(reinterpret_cast<std::uintptr_t>(memory.data) % 64 == 0);
  CHECK(std::all_of(memory.data, memory.data + 100, [](std::byte b) { return b == std::byte{0}; }));
  CHECK(allocate_host(0).data == nullptr);
}
