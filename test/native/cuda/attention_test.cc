// Attention on CUDA against dense float64, and its order of summation: a token has the same bits alone, in
// any batch, in any chunks, and with any number of splits.
#include "cuda/attention_harness.h"

using namespace cria;
using namespace cria::test;

namespace {

// With f16, q and the exponentials are rounded; the sums are float32.
double tolerance(DType kv_dtype) { return kv_dtype == DType::f32 ? 2e-6 : 1e-3; }

}  // namespace

TEST_CASE("attention equals float64: every grouping, head size and length around the edges") {
  CRIA_SEEDED_RNG(rng);
  double worst[2] = {};
  for (const DType dtype : {DType::f16, DType::f32})
    for (const std::int32_t head_dim : {2, 8, 64, 80, 96, 100, 128, 200, 256})
      for (const auto& [heads, kv_heads] : {std::pair{2, 2}, {6, 2}, {8, 1}, {24, 1}}) {
        if (heads > 8 && head_dim != 64) continue;
        CAPTURE(dtype == DType::f32);
        CAPTURE(head_dim);
        CAPTURE(heads);
        const std::vector<std::int32_t> lengths = {1, 31, 64, 65, 130};
        const AttentionCase c(rng, {heads, kv_heads, head_dim, 0, false}, dtype, lengths);
        std::vector<Part> parts;
        for (std::int32_t i = 0; i < 5; i++)
          parts.push_back({i, lengths[static_cast<std::size_t>(i)] - 1, 1});
        const std::vector<float> y = c.attend(parts, 132, 3);
        const double error = c.error(parts, y);
        CHECK(error < tolerance(dtype));
        worst[dtype == DType::f32] = std::max(worst[dtype == DType::f32], error);
      }
  MESSAGE("largest error: f16 " << worst[0] << ", f32 " << worst[1]);
}

TEST_CASE("long contexts, across spans of both lengths, split in any way") {
  CRIA_SEEDED_RNG(rng);
  for (const std::int32_t head_dim : {64, 128}) {
    const std::vector<std::int32_t> lengths = {127, 128, 129, 700, 2049, 3000};
    const AttentionCase c(rng, {4, 1, head_dim, 0, false}, DType::f16, lengths);
    std::vector<Part> parts;
    for (std::int32_t i = 0; i < 6; i++) parts.push_back({i, lengths[static_cast<std::size_t>(i)] - 1, 1});
    const std::vector<float> y = c.attend(parts, 132);
    CHECK(c.error(parts, y) < tolerance(DType::f16));
    for (const std::int32_t multiprocessors : {1, 2, 4, 10})
      CHECK(same_bits(c.attend(parts, multiprocessors), y));
    // With little room for partial results, fewer tiles are split.
    cuda::AttentionLimits limits = cuda::attention_limits(c.shape, 6, true, 20);
    for (const std::int32_t slot_rows : {0, 40, 100}) {
      limits.slot_rows = slot_rows;
      CHECK(same_bits(c.attend(parts, 20, 0, &limits), y));
    }
    limits.decode_tiles = 9;
    CHECK(same_bits(c.attend(parts, 20, 0, &limits), y));
    limits.decode_tiles = 5;
    CHECK_THROWS(c.attend(parts, 20, 0, &limits));
    // Each sequence alone.
    std::vector<float> alone;
    for (const Part& p : parts) {
      const std::vector<float> one = c.attend({p}, 24);
      alone.insert(alone.end(), one.begin(), one.end());
    }
    CHECK(same_bits(alone, y));
  }
}

TEST_CASE("ragged batches: decode and prefill together, in any chunks") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [heads, kv_heads, head_dim] :
       {std::tuple{4, 1, 64}, {6, 2, 128}, {2, 2, 80}, {3, 1, 100}, {20, 1, 16}}) {
    CAPTURE(head_dim);
    const AttentionCase c(rng, {heads, kv_heads, head_dim, 0, false}, DType::f16, {70, 300, 5, 193});
    const std::vector<Part> whole = {{0, 0, 70}, {1, 290, 10}, {2, 4, 1}, {3, 100, 93}, {1, 100, 1}};
    const std::vector<float> y = c.attend(whole);
    CHECK(c.error(whole, y) < tolerance(DType::f16));
    // The same tokens in other chunks and other batches.
    std::vector<float> pieces;
    for (const Part& p : whole)
      for (std::int32_t done = 0, n = 0; done < p.count; done += n) {
        n = std::min<std::int32_t>(p.count - done, 1 + static_cast<std::int32_t>(rng() % 40));
        const Part piece{p.sequence, p.first + done, n};
        const std::vector<float> one = c.attend({piece, {3, 0, static_cast<std::int32_t>(rng() % 50)}},
                                                1 + static_cast<std::int32_t>(rng() % 150));
        pieces.insert(pieces.end(), one.begin(),
                      one.begin() + static_cast<std::ptrdiff_t>(n * heads * head_dim));
      }
    CHECK(same_bits(pieces, y));
  }
}

TEST_CASE("attention refuses shapes and devices that it does not support") {
  cuda::DeviceProperties device = cuda::device_properties(0);
  CHECK_THROWS(cuda::attention_setup({2, 1, 258, 0, false}, device));
  CHECK_THROWS(cuda::attention_setup({2, 1, 63, 0, false}, device));
  device.shared_per_block = device.shared_per_multiprocessor = 64 << 10;
  CHECK(cuda::attention_setup({2, 1, 128, 0, false}, device).prefill_stages == 3);
  CHECK(cuda::attention_setup({2, 1, 208, 0, false}, device).decode_stages == 2);
  CHECK_THROWS(cuda::attention_setup({2, 1, 256, 0, false}, device));
}
