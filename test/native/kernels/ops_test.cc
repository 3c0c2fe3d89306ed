// The ops as the decoder calls them: a whole layer against float64, and the same bits for any threads, chunks
// and pages. One list for every backend.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "kernels/backend.h"
#include "kernels/elementary.h"
#include "kernels/layer_support.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("a layer of five ops equals float64: multi-head, grouped-query and multi-query attention") {
  CRIA_SEEDED_RNG(rng);
  for (const Shape& s : {Shape{64, 8, 8, 8, 172}, Shape{96, 6, 2, 16, 100}, Shape{80, 4, 1, 20, 64}}) {
    const Layer layer(rng, s, DType::f32, DType::f32);
    const std::int32_t n = 71;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const std::vector<float> y = run_layer(s, layer, x, {n}, 2, DType::f32, true);
    CHECK(relative_error(y, layer_reference(s, layer, x)) < 3e-6);
  }
}

TEST_CASE("a layer whose matrices have scales and biases equals float64") {
  CRIA_SEEDED_RNG(rng);
  // Vectors that fill whole units of memory, and ones that leave gaps between them.
  for (const Shape& s : {Shape{128, 4, 2, 32, 192}, Shape{96, 6, 2, 16, 100}}) {
    const std::int32_t n = 21;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const auto check = [&](const Layer& layer, double tolerance) {
      for (const std::int32_t chunk : {n, 1}) {
        const std::vector<float> y = run_layer(s, layer, x, chunks_of(n, chunk), 2, DType::f32, true);
        CHECK(relative_error(y, layer_reference(s, layer, x)) < tolerance);
      }
    };
    constexpr unsigned kAll = 127, kQkv = 7;
    for (const auto& [scaled, biased] :
         {std::pair{0u, kAll}, std::pair{kAll, 0u}, std::pair{kAll, kAll}, std::pair{0u, kQkv},
          std::pair{2u, 5u}, std::pair{kQkv, 4u}, std::pair<unsigned, unsigned>{rng() % 128, rng() % 128}}) {
      CAPTURE(scaled);
      CAPTURE(biased);
      Layer layer(rng, s, DType::f32, DType::f32);
      adjust(rng, layer, scaled, biased);
      check(layer, 3e-6);
    }
    // One scale for q, k and v; gate and up of different types.
    Layer layer(rng, s, DType::f32, DType::f32);
    adjust(rng, layer, kAll, kAll);
    layer.k.scale = layer.v.scale = layer.q.scale;
    check(layer, 3e-6);
    static_cast<TestMatrix&>(layer.up) = TestMatrix(rng, DType::f16, s.ffn, s.hidden);
    check(layer, 2e-3);
  }
}

TEST_CASE("the same bits for any number of threads, any chunks, any placement of pages") {
  CRIA_SEEDED_RNG(rng);
  const Shape s{256, 8, 2, 32, 512};
  // Mixed types in one layer, as in Q4_K_M files; longer than one span of attention.
  for (const auto& [type, value_type] :
       {std::pair{DType::q4_k, DType::q6_k}, std::pair{DType::bf16, DType::q8_0},
        std::pair{DType::q4_0, DType::f16}}) {
    Layer layer(rng, s, type, value_type);
    if (type == DType::q4_0) adjust(rng, layer, 0b1010110, 0b1101101);
    const std::int32_t n = sized(600, 150);
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const std::vector<float> first = run_layer(s, layer, x, chunks_of(n, 300), 1, DType::f16, false);
    for (const int threads : {2, 3})
      CHECK(same_bits(run_layer(s, layer, x, chunks_of(n, 300), threads, DType::f16, false), first));
    for (const std::int32_t chunk : {512, 97, 32, 7})
      CHECK(same_bits(run_layer(s, layer, x, chunks_of(n, chunk), 2, DType::f16, true), first));
    CHECK(same_bits(run_layer(s, layer, x, chunks_of(n, 1), 3, DType::f16, false), first));
  }
}

TEST_CASE(
    "the same bits for query tiles of any size: multi-head, pairs and groups, across the ends of spans") {
  CRIA_SEEDED_RNG(rng);
  for (const Shape& s : {Shape{64, 4, 4, 16, 32}, Shape{64, 4, 2, 16, 32}, Shape{96, 6, 2, 16, 32}}) {
    const Layer layer(rng, s, DType::f32, DType::f32);
    const std::int32_t n = sized(530, 140);
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const std::vector<float> one_by_one = run_layer(s, layer, x, chunks_of(n, 1), 2, DType::f16, false);
    for (const std::int32_t chunk : {n, n - 20, 31, 6, 3})
      CHECK(same_bits(run_layer(s, layer, x, chunks_of(n, chunk), 2, DType::f16, false), one_by_one));
  }
}

TEST_CASE("embed, logits and the greedy choice") {
  CRIA_SEEDED_RNG(rng);
  const std::unique_ptr<Backend> backend = create_backend({kTestDevice, 2});
  const TestMatrix embedding(rng, DType::q8_0, 300, 64), output(rng, DType::f32, 300, 64);
  const std::vector<float> norm = random_floats(rng, 64);
  const std::vector<Weight> weights = upload(*backend, {embedding, output, norm});
  const std::vector<std::uint32_t> tokens = {0, 299, 7, 7};
  const std::vector<std::int32_t> rows = {3, 0}, zeros(4, 0), positions = {0, 1, 2, 3};
  const AttentionShape shape{1, 1, 16, 0, false};
  Batch batch{};
  batch.n_tokens = 4;
  batch.n_sequences = 1;
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.sequence_of = batch.block_table = zeros.data();
  batch.block_table_stride = 1;
  float* const x = backend->activations().allocate(4 * 64);
  float* const selected = backend->activations().allocate(2 * 64);
  float* const logits = backend->activations().allocate(2 * 300);
  backend->passes().prepare({shape, DType::f16, 4, 2, 1, 300});
  REQUIRE(backend->passes().begin({&batch, rows.data(), 2}));
  backend->ops().embed({&batch, weights[0], x});
  backend->ops().gather_rows({2, rows.data(), 64, x, selected});
  backend->ops().logits({2, weights[2], weights[1], 1e-5f, selected, logits});
  backend->passes().end();

  std::vector<float> embedded = fetched(*backend, x, 4 * 64);
  for (std::size_t t = 0; t < 4; t++)
    for (std::size_t i = 0; i < 64; i++)
      REQUIRE(embedded[t * 64 + i] == embedding.values[tokens[t] * 64 + i]);
  Matrix picked;
  for (const std::int32_t r : rows)
    picked.insert(picked.end(), embedded.begin() + r * 64, embedded.begin() + (r + 1) * 64);
  std::vector<float> values = fetched(*backend, logits, 2 * 300);
  CHECK(relative_error(values, times(normalized(picked, norm), output)) < 2e-6);

  std::vector<std::uint32_t> sampled(2);
  const std::vector<SampleRow> greedy(2), one_on_host = {{.on_host = true}, {}};
  const auto argmax = [&](std::ptrdiff_t i) {
    const auto row = values.begin() + i * 300;
    return static_cast<std::uint32_t>(std::max_element(row, row + 300) - row);
  };
  backend->ops().sample({2, 300, logits, greedy.data(), sampled.data()});
  CHECK(sampled == std::vector<std::uint32_t>{argmax(0), argmax(1)});
  backend->ops().sample({2, 300, logits, one_on_host.data(), sampled.data()});
  CHECK(sampled == std::vector<std::uint32_t>{kSampleOnHost, argmax(1)});
}

TEST_CASE("argmax and log-sum-exp of any rows") {
  CRIA_SEEDED_RNG(rng);
  const std::unique_ptr<Backend> backend = create_backend({kTestDevice, 2});
  std::vector<float> values = random_floats(rng, 3 * 300);
  values[300 + 77] = values[300 + 5] = 100.0f;
  float* const x = backend->activations().allocate(values.size());
  backend->activations().store(x, values.data(), values.size());
  for (const std::size_t n : {std::size_t{3}, std::size_t{1}, std::size_t{2}}) {
    std::vector<std::uint32_t> argmax(n);
    std::vector<float> log_sum_exp(n);
    backend->elementary().argmax({.n_rows = static_cast<std::int64_t>(n),
                                  .cols = 300,
                                  .x = x,
                                  .argmax = argmax.data(),
                                  .log_sum_exp = log_sum_exp.data()});
    for (std::size_t i = 0; i < n; i++) {
      const auto row = values.begin() + static_cast<std::ptrdiff_t>(i) * 300;
      CHECK(argmax[i] == static_cast<std::uint32_t>(std::max_element(row, row + 300) - row));
      double sum = 0;
      for (auto v = row; v < row + 300; ++v) sum += std::exp(static_cast<double>(*v));
      CHECK(log_sum_exp[i] == doctest::Approx(std::log(sum)).epsilon(1e-6));
    }
  }
}

TEST_CASE("a page of the cache as bytes: there and back, and nothing beyond its tokens") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : {DType::f16, DType::f32}) {
    const std::unique_ptr<Backend> backend = create_backend({kTestDevice, 1});
    const AttentionShape shape{4, 2, 20, 20, false};
    const std::unique_ptr<KvCache> kv =
        backend->kv().create({.shape = shape, .dtype = dtype, .n_layers = 2, .n_pages = 3});
    const std::size_t bytes = kv->page_bytes();
    CHECK(bytes == 2 * backend->kv().page_bytes(shape, dtype));
    CHECK(kv->layers().size() == 2);
    CHECK(kv->layers()[0].page_stride == bytes / 2);
    const std::int32_t page_tokens = backend->info().page_tokens;
    std::vector<std::byte> page(bytes), read(bytes, std::byte{1});
    for (std::byte& b : page) b = static_cast<std::byte>(rng() % 255 + 1);
    kv->read_page(2, page_tokens, read.data());
    CHECK(std::ranges::all_of(read, [](std::byte b) { return b == std::byte{0}; }));
    kv->write_page(1, page.data());
    kv->copy_page(1, 2);
    kv->read_page(2, page_tokens, read.data());
    CHECK(read == page);
    // K and V of a position are as many values, wherever they lie.
    const std::size_t of_a_token = bytes / static_cast<std::size_t>(page_tokens);
    const auto zeros = [&](std::int32_t n_tokens) {
      kv->read_page(2, n_tokens, read.data());
      return static_cast<std::size_t>(std::ranges::count(read, std::byte{0}));
    };
    for (const std::int32_t n : {1, 7, page_tokens - 1}) {
      const std::size_t min =
          static_cast<std::size_t>(page_tokens - n) * 2 * 2 * 2 * 20 * (dtype == DType::f32 ? 4 : 2);
      CHECK(zeros(n) >= min);
      CHECK(zeros(n) <= static_cast<std::size_t>(page_tokens - n) * of_a_token);
    }
  }
}

TEST_CASE("devices that are not there are refused by name") {
  CHECK_THROWS_AS(create_backend({"cuda", 1}), Error);
  CHECK_THROWS_AS(create_backend({"cuda:3", 1}), Error);
  CHECK_THROWS_AS(create_backend({"gpu", 1}), Error);
  CHECK(create_backend({"auto", 1})->info().device == "cpu");
}
