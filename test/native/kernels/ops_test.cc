// The ops as the decoder calls them: a whole layer against float64, and the same bits for any threads, chunks
// and pages.
#include <algorithm>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "kernels/backend.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

struct Shape {
  std::int32_t hidden, n_heads, n_kv_heads, head_dim, ffn;
};

struct Layer {
  std::vector<float> attention_norm, ffn_norm;
  TestMatrix q, k, v, o, gate, up, down;

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

  static Weight weight(const TestMatrix& m) { return {m.bytes.data(), m.dtype, m.rows, m.cols}; }
  static Weight weight(const std::vector<float>& v) {
    return {v.data(), DType::f32, 1, static_cast<std::int64_t>(v.size())};
  }
  LayerWeights weights() const {
    return {weight(attention_norm), weight(q),    weight(k),  weight(v),   weight(o),
            weight(ffn_norm),       weight(gate), weight(up), weight(down)};
  }
};

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
  const std::unique_ptr<Backend> backend = create_backend({"cpu", threads});
  const std::int32_t n = static_cast<std::int32_t>(x.size()) / s.hidden, page = backend->info().page_tokens;
  const AttentionShape shape{s.n_heads, s.n_kv_heads, s.head_dim, s.head_dim, false};
  std::vector<std::int32_t> table(static_cast<std::size_t>((n + page - 1) / page));
  std::iota(table.begin(), table.end(), 0);
  if (shuffled_pages) std::reverse(table.begin(), table.end());
  const std::vector<KvLayer> kv =
      backend->allocate_kv(shape, kv_dtype, 1, static_cast<std::int32_t>(table.size()));
  const LayerWeights weights = layer.weights();
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
    const std::size_t q_dim = static_cast<std::size_t>(s.n_heads * s.head_dim),
                      c = static_cast<std::size_t>(count);
    std::vector<float> q(c * q_dim), a(c * q_dim), h(c * static_cast<std::size_t>(s.ffn));
    float* at = x.data() + first * s.hidden;
    backend->attention_input({&batch, &weights, shape, 1e-5f, at, kv[0], q.data()});
    backend->paged_attention({&batch, shape, q.data(), kv[0], a.data()});
    backend->project_residual({count, weights.attention_output, a.data(), at});
    backend->swiglu({count, &weights, 1e-5f, at, h.data()});
    backend->project_residual({count, weights.down, h.data(), at});
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

TEST_CASE("the same bits for any number of threads, any chunks, any placement of pages") {
  CRIA_SEEDED_RNG(rng);
  const Shape s{256, 8, 2, 32, 512};
  // Mixed types in one layer, as in Q4_K_M files; longer than one span of attention.
  for (const auto& [type, value_type] :
       {std::pair{DType::q4_k, DType::q6_k}, std::pair{DType::bf16, DType::q8_0},
        std::pair{DType::q4_0, DType::f16}}) {
    const Layer layer(rng, s, type, value_type);
    const std::int32_t n = 600;
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
    const std::int32_t n = 530;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * s.hidden));
    const std::vector<float> one_by_one = run_layer(s, layer, x, chunks_of(n, 1), 2, DType::f16, false);
    for (const std::int32_t chunk : {530, 510, 31, 6, 3})
      CHECK(same_bits(run_layer(s, layer, x, chunks_of(n, chunk), 2, DType::f16, false), one_by_one));
  }
}

TEST_CASE("embed and logits") {
  CRIA_SEEDED_RNG(rng);
  const std::unique_ptr<Backend> backend = create_backend({"cpu", 2});
  const TestMatrix embedding(rng, DType::q8_0, 300, 64);
  const std::vector<float> norm = random_floats(rng, 64);
  const std::vector<std::uint32_t> tokens = {0, 299, 7, 7};
  Batch batch{};
  batch.n_tokens = 4;
  batch.tokens = tokens.data();
  std::vector<float> x(4 * 64);
  backend->embed({&batch, Layer::weight(embedding), x.data()});
  for (std::size_t t = 0; t < 4; t++)
    for (std::size_t i = 0; i < 64; i++) REQUIRE(x[t * 64 + i] == embedding.values[tokens[t] * 64 + i]);

  const TestMatrix output(rng, DType::f32, 300, 64);
  const std::vector<std::int32_t> rows = {3, 0};
  std::vector<float> logits(2 * 300);
  backend->logits(
      {2, rows.data(), Layer::weight(norm), Layer::weight(output), 1e-5f, x.data(), logits.data()});
  Matrix picked;
  for (const std::int32_t r : rows) picked.insert(picked.end(), x.begin() + r * 64, x.begin() + (r + 1) * 64);
  CHECK(relative_error(logits, times(normalized(picked, norm), output)) < 2e-6);
}

TEST_CASE("devices that are not there are refused by name") {
  CHECK_THROWS_AS(create_backend({"cuda", 1}), Error);
  CHECK_THROWS_AS(create_backend({"cuda:3", 1}), Error);
  CHECK_THROWS_AS(create_backend({"gpu", 1}), Error);
  CHECK(create_backend({"auto", 1})->info().device == "cpu");
}
