// The ops as the decoder calls them: a whole layer against float64, and the same bits for any threads, chunks
// and pages. One list for every backend.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "kernels/backend.h"
#include "kernels/elementary.h"
#include "kernels/support.h"
#include "test_device.h"

using namespace cria;
using namespace cria::test;

namespace {

struct Shape {
  std::int32_t hidden, n_heads, n_kv_heads, head_dim, ffn;
};

/// A matrix with the scale and the bias of its products (Weight).
struct LayerMatrix : TestMatrix {
  using TestMatrix::TestMatrix;
  float scale = 1;
  std::vector<float> bias;
};

struct Layer {
  std::vector<float> attention_norm, ffn_norm;
  LayerMatrix q, k, v, o, gate, up, down;

  Layer(std::mt19937_64& rng, const Shape& s, DType type, DType value_type)
      : attention_norm(random_floats(rng, static_cast<std::size_t>(s.hidden))),
        ffn_norm(random_floats(rng, static_cast<std::size_t>(s.hidden))),
        q(rng, type, s.n_heads * s.head_dim, s.hidden),
        k(rng, type, s.n_kv_heads * s.head_dim, s.hidden),
        v(rng, value_type, s.n_kv_heads * s.head_dim, s.hidden),
        o(rng, type, s.hidden, s.n_heads * s.head_dim),
        gate(rng, type, s.ffn, s.hidden),
        up(rng, type, s.ffn, s.hidden),
        down(rng, value_type, s.hidden, s.ffn) {}

  std::array<LayerMatrix*, 7> matrices() { return {&q, &k, &v, &o, &gate, &up, &down}; }
  LayerWeights upload(Backend& backend) const;
};

/// Host memory on its way to a backend.
struct Source {
  WeightSpec spec;
  const void* data;
  Source(const TestMatrix& m, WeightUse use = WeightUse::matrix)
      : spec{m.dtype, m.rows, m.cols, use}, data(m.bytes.data()) {}
  Source(const std::vector<float>& v)
      : spec{DType::f32, 1, static_cast<std::int64_t>(v.size()), WeightUse::vector}, data(v.data()) {}
};

std::vector<Weight> upload(Backend& backend, const std::vector<Source>& sources) {
  std::vector<WeightSpec> specs;
  for (const Source& s : sources) specs.push_back(s.spec);
  const std::unique_ptr<WeightUpload> upload = backend.weights().upload(specs);
  for (std::size_t i = 0; i < upload->parts().size(); i++)
    upload->fill(i, [&](const WeightRange& range, void* dst) {
      std::memcpy(dst, static_cast<const std::byte*>(sources[range.index].data) + range.offset, range.bytes);
    });
  return upload->finish();
}

LayerWeights Layer::upload(Backend& backend) const {
  std::vector<Source> sources = {attention_norm,      q,   k, v, o, ffn_norm, {gate, WeightUse::gate},
                                 {up, WeightUse::up}, down};
  const std::array<const LayerMatrix*, 9> matrices = {nullptr, &q, &k, &v, &o, nullptr, &gate, &up, &down};
  for (const LayerMatrix* m : matrices)
    if (m && !m->bias.empty()) sources.push_back(m->bias);
  std::vector<Weight> w = ::upload(backend, sources);
  std::size_t next = matrices.size();
  for (std::size_t i = 0; i < matrices.size(); i++) {
    if (!matrices[i]) continue;
    w[i].scale = matrices[i]->scale;
    if (!matrices[i]->bias.empty()) w[i].bias = static_cast<const float*>(w[next++].data);
  }
  return {.attention_norm = w[0],
          .query = w[1],
          .key = w[2],
          .value = w[3],
          .attention_output = w[4],
          .ffn_norm = w[5],
          .gate = w[6],
          .up = w[7],
          .down = w[8]};
}

std::vector<float> fetched(Backend& backend, const float* values, std::size_t n) {
  const float* on_host = backend.activations().fetch(values, n);
  return {on_host, on_host + n};
}

struct Rope {
  std::vector<float> cos, sin;
  Rope(std::int32_t first, std::int32_t n, std::int32_t dim) {
    for (std::int32_t t = first; t < first + n; t++)
      for (std::int32_t i = 0; i < dim / 2; i++) {
        const double angle = t * std::pow(10000.0, -2.0 * i / dim);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
  }
};

// Runs tokens through one layer in chunks of the given sizes; returns x afterwards.
std::vector<float> run_layer(const Shape& s, const Layer& layer, std::vector<float> x,
                             const std::vector<std::int32_t>& chunks, int threads, DType kv_dtype,
                             bool shuffled_pages) {
  const std::unique_ptr<Backend> backend = create_backend({kTestDevice, threads});
  const std::int32_t n = static_cast<std::int32_t>(x.size()) / s.hidden, page = backend->info().page_tokens;
  const AttentionShape shape{s.n_heads, s.n_kv_heads, s.head_dim, s.head_dim, false};
  std::vector<std::int32_t> table(static_cast<std::size_t>((n + page - 1) / page));
  std::iota(table.begin(), table.end(), 0);
  if (shuffled_pages) std::reverse(table.begin(), table.end());
  const std::unique_ptr<KvCache> cache = backend->kv().create(
      {.shape = shape, .dtype = kv_dtype, .n_layers = 1, .n_pages = static_cast<std::int32_t>(table.size())});
  const KvLayer kv = cache->layers()[0];
  const LayerWeights weights = layer.upload(*backend);
  const std::int32_t max_tokens = *std::max_element(chunks.begin(), chunks.end());
  const std::size_t q_dim = static_cast<std::size_t>(s.n_heads * s.head_dim);
  const auto room = static_cast<std::size_t>(max_tokens);
  float* const on_device = backend->activations().allocate(room * static_cast<std::size_t>(s.hidden));
  float* const q = backend->activations().allocate(room * q_dim);
  float* const a = backend->activations().allocate(room * q_dim);
  float* const h = backend->activations().allocate(room * static_cast<std::size_t>(s.ffn));
  backend->passes().prepare({shape, kv_dtype, max_tokens, 1, static_cast<std::int32_t>(table.size()), 1});
  std::int32_t first = 0;
  for (const std::int32_t count : chunks) {
    const Rope rope(first, count, s.head_dim);
    std::vector<std::int32_t> positions(static_cast<std::size_t>(count)), sequence(positions.size(), 0);
    std::iota(positions.begin(), positions.end(), first);
    const Batch batch{count,
                      1,
                      nullptr,
                      positions.data(),
                      sequence.data(),
                      table.data(),
                      static_cast<std::int32_t>(table.size()),
                      rope.cos.data(),
                      rope.sin.data()};
    float* const at = x.data() + first * s.hidden;
    const auto n_values = static_cast<std::size_t>(count * s.hidden);
    backend->activations().store(on_device, at, n_values);
    REQUIRE(backend->passes().begin({&batch, nullptr, 0}));
    backend->ops().attention_input({&batch, &weights, shape, 1e-5f, on_device, kv, q});
    backend->ops().paged_attention({&batch, shape, q, kv, a});
    backend->ops().project_residual({count, weights.attention_output, a, on_device});
    backend->ops().swiglu({count, &weights, 1e-5f, on_device, h});
    backend->ops().project_residual({count, weights.down, h, on_device});
    backend->passes().end();
    std::memcpy(at, backend->activations().fetch(on_device, n_values), n_values * sizeof(float));
    first += count;
  }
  return x;
}

using Matrix = std::vector<double>;

Matrix normalized(const Matrix& x, const std::vector<float>& weight) {
  const std::size_t hidden = weight.size();
  Matrix y(x.size());
  for (std::size_t t = 0; t < x.size(); t += hidden) {
    double squares = 0;
    for (std::size_t i = 0; i < hidden; i++) squares += x[t + i] * x[t + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(hidden) + static_cast<double>(1e-5f));
    for (std::size_t i = 0; i < hidden; i++) y[t + i] = x[t + i] * scale * weight[i];
  }
  return y;
}

Matrix times(const Matrix& x, const TestMatrix& w) {
  const std::size_t cols = static_cast<std::size_t>(w.cols), rows = static_cast<std::size_t>(w.rows);
  Matrix y;
  for (std::size_t t = 0; t < x.size() / cols; t++)
    for (std::size_t r = 0; r < rows; r++) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; c++) sum += x[t * cols + c] * w.values[r * cols + c];
      y.push_back(sum);
    }
  return y;
}

Matrix times(const Matrix& x, const LayerMatrix& w) {
  Matrix y = times(x, static_cast<const TestMatrix&>(w));
  const std::size_t rows = static_cast<std::size_t>(w.rows);
  for (std::size_t i = 0; i < y.size(); i++)
    y[i] =
        y[i] * static_cast<double>(w.scale) + (w.bias.empty() ? 0.0 : static_cast<double>(w.bias[i % rows]));
  return y;
}

Matrix layer_reference(const Shape& s, const Layer& layer, const std::vector<float>& input) {
  Matrix x(input.begin(), input.end());
  const std::size_t n = x.size() / static_cast<std::size_t>(s.hidden),
                    dim = static_cast<std::size_t>(s.head_dim);
  const Matrix normed = normalized(x, layer.attention_norm);
  Matrix q = times(normed, layer.q), k = times(normed, layer.k);
  const Matrix v = times(normed, layer.v);
  const auto rotate = [&](Matrix& m, std::size_t heads) {
    for (std::size_t t = 0; t < n; t++)
      for (std::size_t h = 0; h < heads; h++)
        for (std::size_t i = 0; i < dim / 2; i++) {
          const double angle =
              static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(i) / s.head_dim);
          double& a = m[(t * heads + h) * dim + 2 * i];
          double& b = m[(t * heads + h) * dim + 2 * i + 1];
          const double va = a, vb = b;
          a = va * std::cos(angle) - vb * std::sin(angle);
          b = va * std::sin(angle) + vb * std::cos(angle);
        }
  };
  const std::size_t heads = static_cast<std::size_t>(s.n_heads),
                    kv_heads = static_cast<std::size_t>(s.n_kv_heads);
  rotate(q, heads);
  rotate(k, kv_heads);
  Matrix attention(n * heads * dim);
  for (std::size_t t = 0; t < n; t++)
    for (std::size_t h = 0; h < heads; h++) {
      const std::size_t kv = h / (heads / kv_heads);
      std::vector<double> p(t + 1);
      double top = -INFINITY, sum = 0;
      for (std::size_t j = 0; j <= t; j++) {
        for (std::size_t d = 0; d < dim; d++)
          p[j] += q[(t * heads + h) * dim + d] * k[(j * kv_heads + kv) * dim + d];
        p[j] /= std::sqrt(static_cast<double>(dim));
        top = std::max(top, p[j]);
      }
      for (double& e : p) sum += e = std::exp(e - top);
      for (std::size_t j = 0; j <= t; j++)
        for (std::size_t d = 0; d < dim; d++)
          attention[(t * heads + h) * dim + d] += p[j] / sum * v[(j * kv_heads + kv) * dim + d];
    }
  const Matrix projected = times(attention, layer.o);
  for (std::size_t i = 0; i < x.size(); i++) x[i] += projected[i];
  const Matrix second = normalized(x, layer.ffn_norm);
  const Matrix gate = times(second, layer.gate), up = times(second, layer.up);
  Matrix h(gate.size());
  for (std::size_t i = 0; i < h.size(); i++) h[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  const Matrix down = times(h, layer.down);
  for (std::size_t i = 0; i < x.size(); i++) x[i] += down[i];
  return x;
}

std::vector<std::int32_t> chunks_of(std::int32_t n, std::int32_t size) {
  std::vector<std::int32_t> chunks;
  for (; n > 0; n -= size) chunks.push_back(std::min(n, size));
  return chunks;
}

}  // namespace

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

namespace {

/// Gives the matrices whose bit is set in `scaled` a scale, and those in `biased` a bias.
void adjust(std::mt19937_64& rng, Layer& layer, unsigned scaled, unsigned biased) {
  std::uniform_real_distribution<float> scale(0.5f, 2.0f);
  unsigned bit = 1;
  for (LayerMatrix* m : layer.matrices()) {
    if (scaled & bit) m->scale = scale(rng);
    if (biased & bit) m->bias = random_floats(rng, static_cast<std::size_t>(m->rows));
    bit *= 2;
  }
}

}  // namespace

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
