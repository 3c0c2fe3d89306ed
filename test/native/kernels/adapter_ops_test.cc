// LoRA adapters in the ops: against float64 with merged matrices, and the same bits in any batch. One list
// for every backend.
#include "kernels/layer_support.h"

using namespace cria;
using namespace cria::test;

namespace {

/// An adapter of the projections whose bit is set, for tokens [first, first + n).
TestAdapter random_adapter(std::mt19937_64& rng, const Shape& s, unsigned projections, std::int32_t first,
                           std::int32_t n) {
  const std::int64_t q = s.n_heads * s.head_dim, kv = s.n_kv_heads * s.head_dim;
  const std::pair<std::int64_t, std::int64_t> shapes[kProjections] = {
      {q, s.hidden},     {kv, s.hidden},    {kv, s.hidden},   {s.hidden, q},
      {s.ffn, s.hidden}, {s.ffn, s.hidden}, {s.hidden, s.ffn}};
  std::uniform_real_distribution<float> scale(-2.0f, 2.0f);
  TestAdapter adapter{.scale = scale(rng), .first_row = first, .n_rows = n};
  for (std::size_t i = 0; i < kProjections; i++) {
    if (!(projections >> i & 1)) continue;
    const auto& [rows, cols] = shapes[i];
    const auto rank = static_cast<std::int64_t>(1 + rng() % 21);
    adapter.pairs.emplace(static_cast<Projection>(i),
                          TestAdapter::Pair{.a = TestMatrix(rng, DType::f32, rank, cols),
                                            .b = TestMatrix(rng, DType::f32, rows, rank),
                                            .scale = scale(rng)});
  }
  return adapter;
}

}  // namespace

TEST_CASE("a layer with adapters equals float64 with the merged matrices") {
  CRIA_SEEDED_RNG(rng);
  for (const Shape& s : {Shape{128, 4, 2, 32, 192}, Shape{96, 6, 2, 16, 100}}) {
    const std::int32_t n = 21;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    for (const unsigned projections : {127u, 7u, 8u, 16u, 32u, 64u}) {
      CAPTURE(projections);
      Layer layer(rng, s, DType::f32, DType::f32);
      if (projections == 127) adjust(rng, layer, 127, 127);
      // Rows with none, one, two and three adapters.
      const std::vector<TestAdapter> adapters = {random_adapter(rng, s, projections, 2, 9),
                                                 random_adapter(rng, s, 127, 7, 8),
                                                 random_adapter(rng, s, projections, 10, 7)};
      for (const std::int32_t chunk : {n, 5, 1}) {
        const std::vector<float> y =
            run_layer(s, layer, x, chunks_of(n, chunk), 2, DType::f32, true, adapters);
        CHECK(relative_error(y, layer_reference(s, layer, x, adapters)) < 3e-6);
      }
    }
  }
}

TEST_CASE("adapters: the same bits for any threads and chunks; other rows keep theirs") {
  CRIA_SEEDED_RNG(rng);
  const Shape s{256, 8, 2, 32, 512};
  for (const auto& [type, value_type] :
       {std::pair{DType::q4_k, DType::q6_k}, std::pair{DType::bf16, DType::q8_0},
        std::pair{DType::f32, DType::f32}}) {
    const Layer layer(rng, s, type, value_type);
    const std::int32_t n = 40, first = 25;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const std::vector<TestAdapter> adapters = {random_adapter(rng, s, 127, first, 9),
                                               random_adapter(rng, s, 127, first + 4, n - first - 4)};
    const auto run = [&](std::int32_t chunk, int threads, const std::vector<TestAdapter>& with) {
      return run_layer(s, layer, x, chunks_of(n, chunk), threads, DType::f16, false, with);
    };
    const std::vector<float> y = run(n, 1, adapters);
    for (const auto& [chunk, threads] : {std::pair{n, 3}, std::pair{7, 2}, std::pair{1, 2}})
      CHECK(same_bits(run(chunk, threads, adapters), y));
    // Tokens before the first one with an adapter see nothing of it.
    const std::vector<float> plain = run(n, 2, {});
    const auto n_before = static_cast<std::ptrdiff_t>(first * s.hidden);
    CHECK(same_bits({y.begin(), y.begin() + n_before}, {plain.begin(), plain.begin() + n_before}));
    CHECK_FALSE(same_bits(y, plain));
  }
}
