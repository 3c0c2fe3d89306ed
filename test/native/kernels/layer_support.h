// One layer on a backend, chunk by chunk, and the same in float64: for the tests of the ops.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/support.h"
#include "test_device.h"

namespace cria::test {

struct Shape {
  std::int32_t hidden, n_heads, n_kv_heads, head_dim, ffn;
};

/// A matrix with the scale and the bias of its products (Weight).
struct LayerMatrix : TestMatrix {
  using TestMatrix::TestMatrix;
  float scale = 1;
  std::vector<float> bias;
};

/// An adapter of some matrices of a layer, and the rows to which it applies.
struct TestAdapter {
  struct Pair {
    TestMatrix a, b;
    float scale;
  };
  std::map<Projection, Pair> pairs;
  float scale = 1;
  std::int32_t first_row = 0, n_rows = 0;
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
  /// `apart`: gate and up are not fused.
  LayerWeights upload(Backend& backend, bool apart = false) const;
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

inline std::vector<Weight> upload(Backend& backend, const std::vector<Source>& sources) {
  std::vector<WeightSpec> specs;
  for (const Source& s : sources) specs.push_back(s.spec);
  const std::unique_ptr<WeightUpload> upload = backend.weights().upload(specs);
  for (std::size_t i = 0; i < upload->parts().size(); i++)
    upload->fill(i, [&](const WeightRange& range, void* dst) {
      std::memcpy(dst, static_cast<const std::byte*>(sources[range.index].data) + range.offset, range.bytes);
    });
  return upload->finish();
}

inline LayerWeights Layer::upload(Backend& backend, bool apart) const {
  std::vector<Source> sources = {
      attention_norm,      q,   k, v, o, ffn_norm, {gate, apart ? WeightUse::matrix : WeightUse::gate},
      {up, WeightUse::up}, down};
  const std::array<const LayerMatrix*, 9> matrices = {nullptr, &q, &k, &v, &o, nullptr, &gate, &up, &down};
  for (const LayerMatrix* m : matrices)
    if (m && !m->bias.empty()) sources.push_back(m->bias);
  std::vector<Weight> w = cria::test::upload(backend, sources);
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

inline std::vector<float> fetched(Backend& backend, const float* values, std::size_t n) {
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

inline std::vector<AdapterLayer> upload(Backend& backend, const std::vector<TestAdapter>& adapters) {
  std::vector<AdapterLayer> layers(adapters.size());
  for (std::size_t i = 0; i < adapters.size(); i++)
    for (const auto& [projection, pair] : adapters[i].pairs) {
      const std::vector<Weight> w = upload(backend, {pair.a, pair.b});
      layers[i].low_rank[static_cast<std::size_t>(projection)] = {.a = w[0], .b = w[1], .scale = pair.scale};
    }
  return layers;
}

/// The runs of tokens [first, first + count).
inline std::vector<AdapterRun> runs_of(const std::vector<TestAdapter>& adapters,
                                       const std::vector<AdapterLayer>& layers, std::int32_t first,
                                       std::int32_t count) {
  std::vector<AdapterRun> runs;
  for (std::size_t i = 0; i < adapters.size(); i++) {
    const std::int32_t begin = std::max(adapters[i].first_row, first),
                       end = std::min(adapters[i].first_row + adapters[i].n_rows, first + count);
    if (begin < end)
      runs.push_back({.layers = &layers[i],
                      .scale = adapters[i].scale,
                      .first_row = begin - first,
                      .n_rows = end - begin});
  }
  return runs;
}

// Runs tokens through one layer in chunks of the given sizes; returns x afterwards.
inline std::vector<float> run_layer(const Shape& s, const Layer& layer, std::vector<float> x,
                                    const std::vector<std::int32_t>& chunks, int threads, DType kv_dtype,
                                    bool shuffled_pages, const std::vector<TestAdapter>& adapters = {}) {
  const std::unique_ptr<Backend> backend = create_backend({kTestDevice, threads});
  const std::int32_t n = static_cast<std::int32_t>(x.size()) / s.hidden, page = backend->info().page_tokens;
  const AttentionShape shape{s.n_heads, s.n_kv_heads, s.head_dim, s.head_dim, false};
  std::vector<std::int32_t> table(static_cast<std::size_t>((n + page - 1) / page));
  std::iota(table.begin(), table.end(), 0);
  if (shuffled_pages) std::reverse(table.begin(), table.end());
  const std::unique_ptr<KvCache> cache = backend->kv().create(
      {.shape = shape, .dtype = kv_dtype, .n_layers = 1, .n_pages = static_cast<std::int32_t>(table.size())});
  const KvLayer kv = cache->layers()[0];
  const LayerWeights weights = layer.upload(*backend, !adapters.empty());
  const std::vector<AdapterLayer> adapter_layers = upload(*backend, adapters);
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
    const std::vector<AdapterRun> run_list = runs_of(adapters, adapter_layers, first, count);
    const AdapterRuns runs{run_list.data(), static_cast<std::int32_t>(run_list.size())};
    REQUIRE(backend->passes().begin({&batch, nullptr, 0, !run_list.empty()}));
    backend->ops().attention_input({&batch, &weights, shape, 1e-5f, on_device, kv, q, 0, runs});
    backend->ops().paged_attention({&batch, shape, q, kv, a});
    backend->ops().project_residual(
        {count, weights.attention_output, a, on_device, 0, Projection::attention_output, runs});
    backend->ops().swiglu({count, &weights, 1e-5f, on_device, h, 0, runs});
    backend->ops().project_residual({count, weights.down, h, on_device, 0, Projection::down, runs});
    backend->passes().end();
    std::memcpy(at, backend->activations().fetch(on_device, n_values), n_values * sizeof(float));
    first += count;
  }
  return x;
}

using Matrix = std::vector<double>;

inline Matrix normalized(const Matrix& x, const std::vector<float>& weight) {
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

inline Matrix times(const Matrix& x, const TestMatrix& w) {
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

inline Matrix times(const Matrix& x, const LayerMatrix& w) {
  Matrix y = times(x, static_cast<const TestMatrix&>(w));
  const std::size_t rows = static_cast<std::size_t>(w.rows);
  for (std::size_t i = 0; i < y.size(); i++)
    y[i] =
        y[i] * static_cast<double>(w.scale) + (w.bias.empty() ? 0.0 : static_cast<double>(w.bias[i % rows]));
  return y;
}

/// The product with the matrix into which the adapters of each row are merged.
inline Matrix times(const Matrix& x, const LayerMatrix& w, Projection projection,
                    const std::vector<TestAdapter>& adapters) {
  Matrix y = times(x, w);
  const std::size_t cols = static_cast<std::size_t>(w.cols), rows = static_cast<std::size_t>(w.rows);
  for (const TestAdapter& adapter : adapters) {
    const auto at = adapter.pairs.find(projection);
    if (at == adapter.pairs.end()) continue;
    const TestAdapter::Pair& pair = at->second;
    const std::size_t rank = static_cast<std::size_t>(pair.a.rows);
    Matrix merged(rows * cols);
    for (std::size_t r = 0; r < rows; r++)
      for (std::size_t c = 0; c < cols; c++)
        for (std::size_t k = 0; k < rank; k++)
          merged[r * cols + c] += static_cast<double>(pair.scale) * static_cast<double>(adapter.scale) *
                                  static_cast<double>(pair.b.values[r * rank + k]) *
                                  static_cast<double>(pair.a.values[k * cols + c]);
    const auto first = static_cast<std::size_t>(adapter.first_row);
    for (std::size_t t = first; t < first + static_cast<std::size_t>(adapter.n_rows); t++)
      for (std::size_t r = 0; r < rows; r++)
        for (std::size_t c = 0; c < cols; c++) y[t * rows + r] += x[t * cols + c] * merged[r * cols + c];
  }
  return y;
}

inline Matrix layer_reference(const Shape& s, const Layer& layer, const std::vector<float>& input,
                              const std::vector<TestAdapter>& adapters = {}) {
  Matrix x(input.begin(), input.end());
  const std::size_t n = x.size() / static_cast<std::size_t>(s.hidden),
                    dim = static_cast<std::size_t>(s.head_dim);
  const Matrix normed = normalized(x, layer.attention_norm);
  Matrix q = times(normed, layer.q, Projection::query, adapters),
         k = times(normed, layer.k, Projection::key, adapters);
  const Matrix v = times(normed, layer.v, Projection::value, adapters);
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
  const Matrix projected = times(attention, layer.o, Projection::attention_output, adapters);
  for (std::size_t i = 0; i < x.size(); i++) x[i] += projected[i];
  const Matrix second = normalized(x, layer.ffn_norm);
  const Matrix gate = times(second, layer.gate, Projection::gate, adapters),
               up = times(second, layer.up, Projection::up, adapters);
  Matrix h(gate.size());
  for (std::size_t i = 0; i < h.size(); i++) h[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  const Matrix down = times(h, layer.down, Projection::down, adapters);
  for (std::size_t i = 0; i < x.size(); i++) x[i] += down[i];
  return x;
}

inline std::vector<std::int32_t> chunks_of(std::int32_t n, std::int32_t size) {
  std::vector<std::int32_t> chunks;
  for (; n > 0; n -= size) chunks.push_back(std::min(n, size));
  return chunks;
}

/// Gives the matrices whose bit is set in `scaled` a scale, and those in `biased` a bias.
inline void adjust(std::mt19937_64& rng, Layer& layer, unsigned scaled, unsigned biased) {
  std::uniform_real_distribution<float> scale(0.5f, 2.0f);
  unsigned bit = 1;
  for (LayerMatrix* m : layer.matrices()) {
    if (scaled & bit) m->scale = scale(rng);
    if (biased & bit) m->bias = random_floats(rng, static_cast<std::size_t>(m->rows));
    bit *= 2;
  }
}

}  // namespace cria::test
