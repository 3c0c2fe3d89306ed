// append_kv with RoPE against the definition; the page layout against its description; embedding rows of
// every type; softmax.
#include "kernels/cuda/kv_cache.h"

#include "core/float_bits.h"
#include "cuda/support.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/softmax.h"

using namespace cria;
using namespace cria::test;

namespace {

/// One head after RoPE, by the definition.
std::vector<float> rotated(std::vector<float> x, const float* cos, const float* sin, std::size_t rope_dim,
                           bool half) {
  for (std::size_t i = 0; i < rope_dim / 2; i++) {
    float& a = x[half ? i : 2 * i];
    float& b = x[half ? i + rope_dim / 2 : 2 * i + 1];
    const float va = a, vb = b;
    a = va * cos[i] - vb * sin[i];
    b = va * sin[i] + vb * cos[i];
  }
  return x;
}

/// Byte offset of an element in a KV head's block: the description in kv_cache.h, lane by lane.
std::size_t k_offset(std::size_t token, std::size_t d, std::size_t padded, bool f32) {
  if (f32) return (d / 4 * 64 + token) * 16 + d % 4 * 4;
  const std::size_t g = token % 8, t = d % 16 / 4, lane = 4 * g + t;
  return (token / 16 * (padded / 16) + d / 16) * 512 + lane * 16 + (token % 16 / 8 * 4 + d % 4) * 2;
}
std::size_t v_offset(std::size_t token, std::size_t d, std::size_t padded, bool f32) {
  const std::size_t begin = 64 * padded * (f32 ? 4 : 2);
  if (f32) return begin + (token * padded + d) * 4;
  const std::size_t order[16] = {0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3};  // of a lane's four tokens
  const std::size_t g = d % 8, t = token % 8 / 2, lane = 4 * g + t;
  return begin + (token / 16 * (padded / 16) + d / 16) * 512 + lane * 16 +
         (d % 16 / 8 * 4 + order[token % 16]) * 2;
}

float value_at(const unsigned char* at, bool f32) {
  if (f32) {
    float x;
    std::memcpy(&x, at, 4);
    return x;
  }
  std::uint16_t x;
  std::memcpy(&x, at, 2);
  return f16_to_f32(x);
}

/// Whether a KV head's block holds k and v, padded with zeros, at a slot.
bool holds_token(const unsigned char* block, std::size_t slot, const std::vector<float>& k, const float* v,
                 std::size_t padded, bool f32) {
  const auto stored = [&](float x) { return f32 ? x : f16_to_f32(f32_to_f16(x)); };
  bool right = true;
  for (std::size_t d = 0; d < padded; d++) {
    right &= value_at(block + k_offset(slot, d, padded, f32), f32) == stored(d < k.size() ? k[d] : 0.0f);
    right &= value_at(block + v_offset(slot, d, padded, f32), f32) == stored(d < k.size() ? v[d] : 0.0f);
  }
  return right;
}

/// Three sequences, out of order in the table; positions across a page boundary; one token of padding. 6
/// query heads and 3 KV heads, in rows [q, k, v].
struct AppendCase {
  static constexpr std::size_t kHeads = 6, kKvHeads = 3;
  AttentionShape shape;
  std::vector<std::int32_t> positions = {62, 63, 64, 65, 0, -1, 127}, sequences = {2, 2, 2, 2, 0, 0, 1};
  std::vector<std::int32_t> table = {3, 99, 99, 4, 0, 2};
  std::size_t n = positions.size(), dim, pairs, cols;
  std::vector<float> qkv, cos, sin;

  AppendCase(std::mt19937_64& rng, std::int32_t head_dim, std::int32_t rope_dim, bool half)
      : shape{.n_heads = kHeads,
              .n_kv_heads = kKvHeads,
              .head_dim = head_dim,
              .rope_dim = rope_dim,
              .rope_half_layout = half},
        dim(static_cast<std::size_t>(head_dim)),
        pairs(static_cast<std::size_t>(rope_dim / 2)),
        cols((kHeads + 2 * kKvHeads) * dim),
        qkv(random_floats(rng, n * cols)),
        cos(random_floats(rng, n * pairs + 1)),
        sin(random_floats(rng, n * pairs + 1)) {}

  const float* row(std::size_t t, std::size_t head) const { return qkv.data() + t * cols + head * dim; }
  /// Head `head` of q and k of token t after RoPE.
  std::vector<float> expected(std::size_t t, std::size_t head) const {
    return rotated({row(t, head), row(t, head) + dim}, cos.data() + t * pairs, sin.data() + t * pairs,
                   2 * pairs, shape.rope_half_layout);
  }
  /// Runs append_kv. Returns q, and writes all five pages to `bytes`.
  std::vector<float> run(DType dtype, std::vector<unsigned char>& bytes) const {
    const DeviceArray<float> x(qkv), dcos(cos), dsin(sin), q(n * kHeads * dim);
    const DeviceArray<std::int32_t> dpositions(positions), dsequences(sequences), dtable(table);
    const std::size_t page = cuda::kv_page_bytes(shape, dtype);
    const DeviceArray<unsigned char> pages(5 * page);
    cuda::fill_bytes(pages.data(), 0xff, 5 * page, nullptr);
    Batch batch{};
    batch.n_tokens = static_cast<std::int32_t>(n);
    batch.n_sequences = 3;
    batch.positions = dpositions.data();
    batch.sequence_of = dsequences.data();
    batch.block_table = dtable.data();
    batch.block_table_stride = 2;
    batch.rope_cos = dcos.data();
    batch.rope_sin = dsin.data();
    cuda::append_kv({.batch = &batch,
                     .shape = shape,
                     .q = x.data(),
                     .k = x.data() + kHeads * dim,
                     .v = x.data() + (kHeads + kKvHeads) * dim,
                     .q_stride = static_cast<std::int64_t>(cols),
                     .kv_stride = static_cast<std::int64_t>(cols),
                     .q_out = q.data(),
                     .kv = {reinterpret_cast<std::byte*>(pages.data()), page, dtype, 64}},
                    nullptr);
    bytes = pages.get();
    return q.get();
  }
};

}  // namespace

TEST_CASE("append_kv: RoPE in both layouts, and where each value lies") {
  CRIA_SEEDED_RNG(rng);
  for (const bool f32 : {false, true})
    for (const bool half : {false, true})
      for (const auto& [head_dim, rope_dim] :
           {std::pair{64, 64}, {80, 80}, {100, 64}, {2, 2}, {128, 0}, {22, 10}}) {
        CAPTURE(f32);
        CAPTURE(half);
        CAPTURE(head_dim);
        const DType dtype = f32 ? DType::f32 : DType::f16;
        const AppendCase c(rng, head_dim, rope_dim, half);
        std::vector<unsigned char> bytes;
        const std::vector<float> q = c.run(dtype, bytes);
        const std::size_t padded = static_cast<std::size_t>(cuda::padded_head_dim(head_dim));
        std::size_t written = 0;
        bool right = true;
        for (std::size_t t = 0; t < c.n; t++) {
          if (c.positions[t] < 0) continue;
          for (std::size_t h = 0; h < c.kHeads; h++)
            right &=
                std::memcmp(c.expected(t, h).data(), q.data() + (t * c.kHeads + h) * c.dim, c.dim * 4) == 0;
          const auto position = static_cast<std::size_t>(c.positions[t]);
          const auto id =
              static_cast<std::size_t>(c.table[static_cast<std::size_t>(c.sequences[t]) * 2 + position / 64]);
          for (std::size_t h = 0; h < c.kKvHeads; h++) {
            const unsigned char* block = bytes.data() + id * cuda::kv_page_bytes(c.shape, dtype) +
                                         h * cuda::kv_block_bytes(head_dim, dtype);
            right &= holds_token(block, position % 64, c.expected(t, c.kHeads + h),
                                 c.row(t, c.kHeads + c.kKvHeads + h), padded, f32);
            written += padded * 2 * (f32 ? 4 : 2);
          }
        }
        CHECK(right);
        // Nothing else was written. (No value has a byte of ones in every place.)
        std::size_t untouched = 0;
        for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
          untouched += bytes[i] == 0xff && bytes[i + 1] == 0xff ? 2 : 0;
        CHECK(untouched >= bytes.size() - written);
      }
}

TEST_CASE("embed from every type of weights in its file's layout") {
  CRIA_SEEDED_RNG(rng);
  for (const DTypeTraits& traits : kDTypes) {
    if (!traits.is_weight) continue;
    const DType dtype = traits.dtype;
    CAPTURE(traits.name);
    const std::size_t hidden = 512, vocab = 9, row = row_bytes(dtype, hidden);
    std::vector<unsigned char> bytes(row * vocab);
    for (unsigned char& b : bytes)
      b = static_cast<unsigned char>(rng());  // any bits are a valid block; some scales are NaN
    const std::vector<std::uint32_t> tokens = {3, 0, 8, 3, 9};
    const DeviceArray<unsigned char> table(bytes);
    const DeviceArray<std::uint32_t> ids(tokens);
    const DeviceArray<float> x(tokens.size() * hidden);
    cuda::embed(table.data(), dtype, 9, 512, ids.data(), 5, x.data(), nullptr);
    const std::vector<float> got = x.get();
    std::vector<float> expected(hidden);
    for (std::size_t t = 0; t < 4; t++) {
      dequantize_row(dtype, bytes.data() + tokens[t] * row, expected.data(), 512);
      for (std::size_t i = 0; i < hidden; i++) {
        CAPTURE(i);
        const float y = got[t * hidden + i];
        REQUIRE((float_bits(y) == float_bits(expected[i]) || (std::isnan(y) && std::isnan(expected[i]))));
      }
    }
    CHECK(std::isnan(got[4 * hidden]));
  }
}

TEST_CASE("softmax") {
  CRIA_SEEDED_RNG(rng);
  for (const std::size_t n : {1, 31, 256, 257, 3000}) {
    std::vector<float> x = random_floats(rng, 3 * n, 5.0f);
    if (n > 1) x[0] = -INFINITY;
    std::vector<double> expected;
    for (std::size_t r = 0; r < 3; r++) {
      double top = -INFINITY, sum = 0;
      for (std::size_t i = 0; i < n; i++) top = std::max(top, static_cast<double>(x[r * n + i]));
      for (std::size_t i = 0; i < n; i++) sum += std::exp(x[r * n + i] - top);
      for (std::size_t i = 0; i < n; i++) expected.push_back(std::exp(x[r * n + i] - top) / sum);
    }
    const DeviceArray<float> dx(x);
    cuda::softmax(dx.data(), dx.data(), 3, static_cast<std::int64_t>(n), nullptr);
    CHECK(relative_error(dx.get(), expected) < 1e-6);
  }
}
