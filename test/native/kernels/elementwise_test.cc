// RMSNorm, RoPE, SiLU, activation quantizers and greedy sampling, at every level.
#include "core/float_bits.h"
#include "core/thread_pool.h"
#include "kernels/blocks.h"
#include "kernels/cpu/activation_buffer.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("rms_norm") {
  CRIA_SEEDED_RNG(rng);
  for (const std::size_t n : {1u, 7u, 16u, 64u, 100u, 4096u, 5003u}) {
    CAPTURE(n);
    const std::vector<float> x = random_floats(rng, n, 3.0f), weight = random_floats(rng, n);
    const float eps = 1e-5f;
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
    std::vector<double> expected;
    for (std::size_t i = 0; i < n; i++) expected.push_back(x[i] * scale * weight[i]);
    std::vector<float> portable(n);
    runnable_levels().front()->rms_norm(x.data(), weight.data(), eps, portable.data(),
                                        static_cast<std::int64_t>(n));
    CHECK(relative_error(portable, expected) < 1e-6);
    for (const CpuKernels* level : runnable_levels()) {
      std::vector<float> y(n);
      level->rms_norm(x.data(), weight.data(), eps, y.data(), static_cast<std::int64_t>(n));
      CHECK(same_bits(y, portable));
    }
  }
}

TEST_CASE("rope, both layouts") {
  CRIA_SEEDED_RNG(rng);
  for (const bool half_layout : {false, true}) {
    for (const std::int32_t head_dim : {2, 8, 80, 128}) {
      const std::int32_t rope_dim = head_dim > 8 ? head_dim - 8 : head_dim, half = rope_dim / 2, n_heads = 3;
      std::vector<float> cos, sin;
      for (std::int32_t i = 0; i < half; i++) {
        const double angle = 1234.0 * std::pow(10000.0, -2.0 * i / rope_dim);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n_heads * head_dim));
      std::vector<double> expected(x.begin(), x.end());
      for (std::int32_t h = 0; h < n_heads; h++)
        for (std::int32_t i = 0; i < half; i++) {
          const std::size_t a = static_cast<std::size_t>(h * head_dim + (half_layout ? i : 2 * i));
          const std::size_t b = a + static_cast<std::size_t>(half_layout ? half : 1);
          const double c = cos[static_cast<std::size_t>(i)], s = sin[static_cast<std::size_t>(i)];
          expected[a] = x[a] * c - x[b] * s;
          expected[b] = x[a] * s + x[b] * c;
        }
      std::vector<float> portable;
      for (const CpuKernels* level : runnable_levels()) {
        CAPTURE(level->isa);
        std::vector<float> y = x;
        const RopeRow row{cos.data(), sin.data(), rope_dim, head_dim, n_heads, half_layout};
        level->rope(y.data(), &row);
        CHECK(relative_error(y, expected) < 1e-6);
        if (portable.empty()) portable = y;
        CHECK(same_bits(y, portable));
      }
    }
  }
}

TEST_CASE("silu_mul over the whole range of floats") {
  std::vector<float> gate, up;
  for (float g = -120.0f; g <= 120.0f; g += 0.0137f) gate.push_back(g);
  for (const float g : {0.0f, -0.0f, 1e-30f, -1e-30f, 2e38f, -2e38f}) gate.push_back(g);
  up.assign(gate.size(), 1.5f);
  std::vector<double> expected;
  for (const float g : gate) expected.push_back(1.5 * g / (1.0 + std::exp(-static_cast<double>(g))));
  std::vector<float> portable;
  for (const CpuKernels* level : runnable_levels()) {
    CAPTURE(level->isa);
    std::vector<float> y(gate.size());
    level->silu_mul(gate.data(), up.data(), y.data(), static_cast<std::int64_t>(y.size()));
    for (std::size_t i = 0; i < y.size(); i++) {
      CAPTURE(gate[i]);
      REQUIRE(std::fabs(y[i] - expected[i]) <= 4e-7 * std::fabs(expected[i]) + 1e-35);
    }
    if (portable.empty()) portable = y;
    CHECK(same_bits(y, portable));
  }
  for (const CpuKernels* level : runnable_levels()) {
    float nan = NAN, one = 1.0f, y = 0;
    level->silu_mul(&nan, &one, &y, 1);
    CHECK(std::isnan(y));
  }
}

TEST_CASE("activations are quantized bit for bit as quantize.h defines") {
  CRIA_SEEDED_RNG(rng);
  ThreadPool pool(1);
  for (const CpuKernels* level : runnable_levels()) {
    CAPTURE(level->isa);
    for (int round = 0; round < 200; round++) {
      const std::int64_t cols = 512;
      std::vector<float> x = random_floats(rng, 512, std::pow(10.0f, static_cast<float>(round % 13 - 6)));
      if (round % 5 == 0)  // ties: halves of the scale
        for (std::size_t i = 0; i < 512; i++)
          x[i] = static_cast<float>(static_cast<int>(rng() % 255) - 127) * 0.5f;
      if (round % 7 == 0) std::fill(x.begin(), x.begin() + 256, 0.0f);
      if (round == 50) x[3] = NAN;
      if (round == 51) x[300] = INFINITY;
      if (round == 52) std::fill(x.begin(), x.end(), 1e-42f);
      ActivationBuffer buffer;

      ActivationRows rows = buffer.prepare(*level, pool, DType::q4_k, x.data(), 1, cols);
      std::vector<BlockQ8_K> k(2);
      quantize_row(DType::q8_k, x.data(), k.data(), cols);
      for (std::size_t b = 0; b < 2; b++) {
        REQUIRE(std::memcmp(rows.q + 256 * b, k[b].qs, 256) == 0);
        REQUIRE(float_bits(rows.scale[b]) == float_bits(k[b].d));
        REQUIRE(std::memcmp(rows.sums16 + 16 * b, k[b].bsums, sizeof k[b].bsums) == 0);
        int max = 0;
        for (std::size_t i = 0; i < 256; i += 16)
          max = std::max(max, std::accumulate(k[b].qs + i, k[b].qs + i + 16, 0,
                                              [](int sum, int q) { return sum + std::abs(q); }));
        REQUIRE(rows.max_abs_sum16[b] == max);
      }
      rows = buffer.prepare(*level, pool, DType::q4_1, x.data(), 1, cols);
      std::vector<BlockQ8_1> q(16);
      quantize_row(DType::q8_1, x.data(), q.data(), cols);
      for (std::size_t b = 0; b < 16; b++) {
        REQUIRE(std::memcmp(rows.q + 32 * b, q[b].qs, 32) == 0);
        REQUIRE(float_bits(rows.scale[b]) == float_bits(f16_to_f32(q[b].d)));
        REQUIRE(float_bits(rows.weighted_sum[b]) == float_bits(f16_to_f32(q[b].s)));
      }
    }
  }
}

TEST_CASE("greedy sampling: the lowest id among equals, and log-sum-exp") {
  CRIA_SEEDED_RNG(rng);
  for (const std::size_t n : {1u, 15u, 16u, 17u, 1000u, 128256u}) {
    CAPTURE(n);
    std::vector<float> logits = random_floats(rng, n, 5.0f);
    if (n > 20) logits[3] = logits[19] = 99.0f;
    if (n > 500) logits[400] = -INFINITY;
    double top = -INFINITY, sum = 0;
    for (const float l : logits) top = std::max(top, static_cast<double>(l));
    for (const float l : logits) sum += std::exp(l - top);
    for (const CpuKernels* level : runnable_levels()) {
      CAPTURE(level->isa);
      std::uint32_t id = 0;
      float lse = 0;
      level->argmax(logits.data(), static_cast<std::int64_t>(n), &id, &lse);
      CHECK(static_cast<double>(logits[id]) == top);
      for (std::uint32_t i = 0; i < id; i++) REQUIRE(static_cast<double>(logits[i]) < top);
      CHECK(lse == doctest::Approx(top + std::log(sum)).epsilon(1e-6));
      std::vector<float> bad = logits;
      for (const float poison : {NAN, INFINITY}) {
        bad[n / 2] = poison;
        level->argmax(bad.data(), static_cast<std::int64_t>(n), &id, &lse);
        CHECK_FALSE(std::isfinite(lse));
      }
    }
  }
}
