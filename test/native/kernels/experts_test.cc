// Mixtures of experts: the op against float64, and against the ops of an ordinary FFN, expert by expert and
// bit for bit. One list for every backend.
#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "kernels/backend.h"
#include "kernels/support.h"
#include "test_device.h"

using namespace cria;
using namespace cria::test;

namespace {

constexpr float kEps = 1e-5f;

/// The types of the router and of the experts' matrices.
struct Types {
  DType router = DType::f32, gate = DType::f32, up = DType::f32, down = DType::f32;
};

struct Mixture {
  ExpertShape shape;
  std::vector<float> norm;
  TestMatrix router;
  std::vector<TestMatrix> gate, up, down;

  Mixture(std::mt19937_64& rng, const ExpertShape& s, const Types& types)
      : shape(s),
        norm(random_floats(rng, static_cast<std::size_t>(s.hidden))),
        router(rng, types.router, s.n_experts, s.hidden) {
    for (std::int32_t e = 0; e < s.n_experts; e++) {
      gate.emplace_back(rng, types.gate, s.ffn_hidden, s.hidden);
      up.emplace_back(rng, types.up, s.ffn_hidden, s.hidden);
      down.emplace_back(rng, types.down, s.hidden, s.ffn_hidden);
    }
  }
  /// Makes the router's row `to` that of `from`: both experts are equally likely.
  void equate(std::size_t from, std::size_t to) {
    const std::size_t row = router.bytes.size() / static_cast<std::size_t>(shape.n_experts),
                      cols = static_cast<std::size_t>(shape.hidden);
    std::copy_n(router.bytes.begin() + static_cast<std::ptrdiff_t>(from * row), row,
                router.bytes.begin() + static_cast<std::ptrdiff_t>(to * row));
    std::copy_n(router.values.begin() + static_cast<std::ptrdiff_t>(from * cols), cols,
                router.values.begin() + static_cast<std::ptrdiff_t>(to * cols));
  }
};

/// The mixture on a backend, with room for passes of up to max_tokens.
class OnDevice {
 public:
  OnDevice(const Mixture& m, std::int32_t max_tokens, int threads)
      : m_(m), backend_(create_backend({kTestDevice, threads})) {
    std::vector<WeightSpec> specs = {{DType::f32, 1, m.shape.hidden, WeightUse::vector},
                                     {m.router.dtype, m.router.rows, m.router.cols}};
    std::vector<const void*> data = {m.norm.data(), m.router.bytes.data()};
    const auto add = [&](const TestMatrix& w, WeightUse use) {
      specs.push_back({w.dtype, w.rows, w.cols, use});
      data.push_back(w.bytes.data());
    };
    const auto n = static_cast<std::size_t>(m.shape.n_experts);
    for (std::size_t e = 0; e < n; e++) {
      add(m.gate[e], WeightUse::gate);
      add(m.up[e], WeightUse::up);
    }
    for (std::size_t e = 0; e < n; e++) add(m.down[e], WeightUse::matrix);
    const std::unique_ptr<WeightUpload> upload = backend_->weights().upload(specs);
    for (std::size_t i = 0; i < upload->parts().size(); i++)
      upload->fill(i, [&](const WeightRange& range, void* dst) {
        std::memcpy(dst, static_cast<const std::byte*>(data[range.index]) + range.offset, range.bytes);
      });
    const std::vector<Weight> w = upload->finish();
    weights_.ffn_norm = w[0];
    weights_.router = w[1];
    for (std::size_t e = 0; e < n; e++)
      weights_.experts.push_back({.gate = w[2 + 2 * e], .up = w[3 + 2 * e], .down = w[2 + 2 * n + e]});
    Activations& activations = backend_->activations();
    const auto room = static_cast<std::size_t>(max_tokens);
    x_ = activations.allocate(room * static_cast<std::size_t>(m.shape.hidden));
    h_ = activations.allocate(room * static_cast<std::size_t>(m.shape.ffn_hidden));
    logits_ = activations.allocate(room * n);
    backend_->passes().prepare({.shape = {1, 1, 16, 0, false},
                                .max_tokens = max_tokens,
                                .max_sequences = max_tokens,
                                .max_pages = 1,
                                .vocab = m.shape.n_experts,
                                .experts = m.shape});
  }

  /// x after the op, in passes of the given sizes.
  std::vector<float> experts(std::vector<float> x, const std::vector<std::int32_t>& chunks) {
    std::size_t first = 0;
    for (const std::int32_t n : chunks) {
      const std::size_t values = static_cast<std::size_t>(n * m_.shape.hidden);
      const std::vector<float> out =
          pass({x.begin() + static_cast<std::ptrdiff_t>(first),
                x.begin() + static_cast<std::ptrdiff_t>(first + values)},
               x_, values, [&] {
                 backend_->ops().experts(
                     {.n_tokens = n, .weights = &weights_, .shape = m_.shape, .rms_norm_eps = kEps, .x = x_});
               });
      std::ranges::copy(out, x.begin() + static_cast<std::ptrdiff_t>(first));
      first += values;
    }
    return x;
  }

  /// x after the op, in a pass of one token of each of several sequences, which may be recorded.
  std::vector<float> decode(const std::vector<float>& x) {
    const std::int32_t n = tokens_of(x);
    return pass(x, x_, x.size(), [&] { backend_->ops().experts({n, &weights_, m_.shape, kEps, x_}); }, true);
  }

  /// [n, n_experts].
  std::vector<float> router_logits(const std::vector<float>& x) {
    const std::int32_t n = tokens_of(x);
    return pass(x, logits_, static_cast<std::size_t>(n * m_.shape.n_experts),
                [&] { backend_->ops().logits({n, weights_.ffn_norm, weights_.router, kEps, x_, logits_}); });
  }

  /// [n, hidden], of one expert alone for all tokens.
  std::vector<float> expert(const std::vector<float>& x, std::size_t e) {
    const std::int32_t n = tokens_of(x);
    LayerWeights own;
    own.ffn_norm = weights_.ffn_norm;
    own.gate = weights_.experts[e].gate;
    own.up = weights_.experts[e].up;
    const std::vector<float> zeros(x.size(), 0.0f);
    return pass(x, x_, x.size(), [&] {
      backend_->ops().swiglu({n, &own, kEps, x_, h_});
      backend_->activations().store(x_, zeros.data(), zeros.size());
      backend_->ops().project_residual({n, weights_.experts[e].down, h_, x_});
    });
  }

 private:
  std::int32_t tokens_of(const std::vector<float>& x) const {
    return static_cast<std::int32_t>(static_cast<std::int64_t>(x.size()) / m_.shape.hidden);
  }
  template <class Calls>
  std::vector<float> pass(const std::vector<float>& x, float* out, std::size_t n_out, Calls&& calls,
                          bool only_decode = false) {
    const std::int32_t n = tokens_of(x);
    std::vector<std::int32_t> indices(static_cast<std::size_t>(n));
    std::iota(indices.begin(), indices.end(), 0);
    const std::vector<std::uint32_t> tokens(indices.size(), 0);
    const std::vector<std::int32_t> zeros(indices.size(), 0);
    Batch batch{};
    batch.n_tokens = n;
    batch.n_sequences = only_decode ? n : 1;
    batch.tokens = tokens.data();
    batch.positions = only_decode ? zeros.data() : indices.data();
    batch.sequence_of = only_decode ? indices.data() : zeros.data();
    batch.block_table = zeros.data();
    batch.block_table_stride = 1;
    backend_->activations().store(x_, x.data(), x.size());
    if (backend_->passes().begin({&batch, indices.data(), n})) calls();
    backend_->passes().end();
    const float* const on_host = backend_->activations().fetch(out, n_out);
    return {on_host, on_host + n_out};
  }

  const Mixture& m_;
  const std::unique_ptr<Backend> backend_;
  LayerWeights weights_;
  float *x_, *h_, *logits_;
};

std::vector<std::int32_t> chunks_of(std::int32_t n, std::int32_t size) {
  std::vector<std::int32_t> chunks;
  for (; n > 0; n -= size) chunks.push_back(std::min(n, size));
  return chunks;
}
std::vector<float> run(const Mixture& m, const std::vector<float>& x, int threads, std::int32_t chunk) {
  const auto n = static_cast<std::int32_t>(static_cast<std::int64_t>(x.size()) / m.shape.hidden);
  return OnDevice(m, std::min(n, chunk), threads).experts(x, chunks_of(n, chunk));
}

/// Experts by probability, the lower index among equals.
template <class T>
std::vector<std::size_t> ranked(const T* p, std::int32_t n, std::int32_t used) {
  std::vector<std::size_t> experts(static_cast<std::size_t>(n));
  std::iota(experts.begin(), experts.end(), std::size_t{0});
  std::ranges::stable_sort(experts, [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  experts.resize(static_cast<std::size_t>(used));
  return experts;
}

/// The op in float64.
std::vector<double> reference(const Mixture& m, const std::vector<float>& input) {
  const auto hidden = static_cast<std::size_t>(m.shape.hidden),
             n = static_cast<std::size_t>(m.shape.n_experts);
  const auto times = [](const std::vector<double>& x, const TestMatrix& w) {
    std::vector<double> y(static_cast<std::size_t>(w.rows));
    for (std::size_t r = 0; r < y.size(); r++)
      for (std::size_t c = 0; c < x.size(); c++) y[r] += x[c] * w.values[r * x.size() + c];
    return y;
  };
  std::vector<double> out;
  for (std::size_t at = 0; at < input.size(); at += hidden) {
    std::vector<double> x(input.begin() + static_cast<std::ptrdiff_t>(at),
                          input.begin() + static_cast<std::ptrdiff_t>(at + hidden)),
        normed(hidden);
    double squares = 0;
    for (const double v : x) squares += v * v;
    for (std::size_t i = 0; i < hidden; i++)
      normed[i] =
          x[i] / std::sqrt(squares / static_cast<double>(hidden) + static_cast<double>(kEps)) * m.norm[i];
    std::vector<double> p = times(normed, m.router);
    const double top = *std::ranges::max_element(p);
    double all = 0, chosen = 0;
    for (double& v : p) all += v = std::exp(v - top);
    for (double& v : p) v /= all;
    const std::vector<std::size_t> experts = ranked(p.data(), static_cast<std::int32_t>(n), m.shape.n_used);
    for (const std::size_t e : experts) chosen += p[e];
    for (const std::size_t e : experts) {
      std::vector<double> h = times(normed, m.gate[e]);
      const std::vector<double> up = times(normed, m.up[e]);
      for (std::size_t i = 0; i < h.size(); i++) h[i] = h[i] / (1 + std::exp(-h[i])) * up[i];
      const std::vector<double> y = times(h, m.down[e]);
      for (std::size_t i = 0; i < hidden; i++) x[i] += p[e] / chosen * y[i];
    }
    out.insert(out.end(), x.begin(), x.end());
  }
  return out;
}

/// The op put together from the ops of an ordinary FFN, in the order that ExpertsArgs states. The softmax is
/// the CPU's: sixteen chains on every device.
std::vector<float> composed(const Mixture& m, const std::vector<float>& x) {
  const auto hidden = static_cast<std::size_t>(m.shape.hidden), n = x.size() / hidden,
             n_experts = static_cast<std::size_t>(m.shape.n_experts);
  OnDevice device(m, static_cast<std::int32_t>(n), 1);
  std::vector<float> p = device.router_logits(x), y = x;
  std::vector<std::vector<float>> outputs;
  for (std::size_t e = 0; e < n_experts; e++) outputs.push_back(device.expert(x, e));
  for (std::size_t t = 0; t < n; t++) {
    float* const own = p.data() + t * n_experts;
    runnable_levels().front()->softmax(own, own, m.shape.n_experts);
    const std::vector<std::size_t> experts = ranked(own, m.shape.n_experts, m.shape.n_used);
    float chosen = 0;
    for (const std::size_t e : experts) chosen += own[e];
    for (std::size_t i = 0; i < hidden; i++) {
      float sum = 0;
      for (const std::size_t e : experts) {
        const float term = outputs[e][t * hidden + i] * (own[e] / chosen);
        sum = e == experts[0] ? term : sum + term;
      }
      y[t * hidden + i] += sum;
    }
  }
  return y;
}

}  // namespace

TEST_CASE("a mixture of experts equals float64: all counts of experts and of experts in use") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [n_experts, used] : {std::pair{1, 1}, std::pair{2, 2}, std::pair{8, 2}, std::pair{5, 5},
                                        std::pair{33, 1}, std::pair{40, 7}}) {
    CAPTURE(n_experts);
    const Mixture m(rng, {.n_experts = n_experts, .n_used = used, .hidden = 44, .ffn_hidden = 52}, {});
    for (const std::int32_t n : {1, 3, 37}) {
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * m.shape.hidden));
      CHECK(relative_error(run(m, x, 2, n), reference(m, x)) < 3e-6);
    }
  }
}

TEST_CASE("a mixture has the bits of its experts' FFNs, with weights of every type") {
  CRIA_SEEDED_RNG(rng);
  for (const DType type : kWeightTypes) {
    CAPTURE(std::string(name_of(type)));
    // As in real files, down and the router may have types of their own. Gate and up that differ are not
    // fused on CUDA.
    const DType other = kWeightTypes[rng() % kWeightTypes.size()];
    CAPTURE(std::string(name_of(other)));
    for (const Types& types : {Types{DType::f32, type, type, other}, Types{other, other, type, type}}) {
      const Mixture m(rng, {.n_experts = 4, .n_used = 2, .hidden = 256, .ffn_hidden = 256}, types);
      for (const std::int32_t n : {2, sized(45, 20)}) {  // few rows an expert, and many
        CAPTURE(n);
        const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * m.shape.hidden));
        CHECK(same_bits(run(m, x, 2, n), composed(m, x)));
      }
    }
  }
}

TEST_CASE("a token's experts give the same bits alone and in any batch, with any number of threads") {
  CRIA_SEEDED_RNG(rng);
  for (const Types& types : {Types{DType::f32, DType::q4_k, DType::q4_k, DType::q6_k},
                             Types{DType::f16, DType::q4_0, DType::q8_0, DType::bf16}, Types{}}) {
    const Mixture m(rng, {.n_experts = 6, .n_used = 3, .hidden = 256, .ffn_hidden = 512}, types);
    const std::int32_t n = sized(130, 24);
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * m.shape.hidden));
    const std::vector<float> together = run(m, x, 1, n);
    for (const int threads : {2, 3}) CHECK(same_bits(run(m, x, threads, n), together));
    for (const std::int32_t chunk : {1, 2, 7, 33}) CHECK(same_bits(run(m, x, 2, chunk), together));
  }
}

TEST_CASE("all tokens with one expert, and experts without tokens") {
  CRIA_SEEDED_RNG(rng);
  const Types types{DType::f32, DType::q4_k, DType::q4_k, DType::q4_k};
  Mixture m(rng, {.n_experts = 8, .n_used = 1, .hidden = 256, .ffn_hidden = 256}, types);
  // Two directions of x choose the experts: all tokens point to expert 5.
  std::vector<float> x = random_floats(rng, 70 * 256, 0.01f);
  for (std::size_t t = 0; t < 70; t++) x[t * 256] = 3.0f;
  m.norm[0] = 1.0f;
  auto* const router = reinterpret_cast<float*>(m.router.bytes.data());
  for (std::size_t e = 0; e < 8; e++) router[e * 256] = m.router.values[e * 256] = e == 5 ? 2.0f : 0.0f;
  CHECK(same_bits(run(m, x, 2, 70), composed(m, x)));
  m.shape.n_used = 2;
  CHECK(same_bits(run(m, x, 3, 70), composed(m, x)));
}

TEST_CASE("of equally likely experts the first is chosen") {
  CRIA_SEEDED_RNG(rng);
  Mixture m(rng, {.n_experts = 9, .n_used = 3, .hidden = 64, .ffn_hidden = 32}, {});
  for (const std::size_t e : {1, 4, 7, 8}) m.equate(2, e);
  for (const std::size_t e : {5, 6}) m.equate(0, e);
  const std::vector<float> x = random_floats(rng, 20 * 64);
  CHECK(same_bits(run(m, x, 2, 20), composed(m, x)));
  for (const std::size_t e : {0, 1, 3, 4, 5, 6, 7, 8}) m.equate(2, e);
  CHECK(same_bits(run(m, x, 2, 20), composed(m, x)));
}

TEST_CASE("a token that is not a number stays alone with it") {
  CRIA_SEEDED_RNG(rng);
  const Mixture m(rng, {.n_experts = 4, .n_used = 2, .hidden = 256, .ffn_hidden = 256},
                  {DType::f32, DType::q4_0, DType::q4_0, DType::q4_0});
  std::vector<float> x = random_floats(rng, 12 * 256);
  const std::vector<float> clean = run(m, x, 2, 12);
  x[5 * 256 + 17] = NAN;
  x[7 * 256 + 3] = INFINITY;
  const std::vector<float> y = run(m, x, 2, 12);
  for (std::size_t t = 0; t < 12; t++) {
    const auto* const row = y.data() + t * 256;
    if (t == 5 || t == 7)
      CHECK(std::all_of(row, row + 256, [](float v) { return std::isnan(v); }));
    else
      CHECK(std::memcmp(row, clean.data() + t * 256, 256 * sizeof(float)) == 0);
  }
}

TEST_CASE("a recorded pass gives each token the experts that it wants") {
  CRIA_SEEDED_RNG(rng);
  const Mixture m(rng, {.n_experts = 6, .n_used = 2, .hidden = 256, .ffn_hidden = 256},
                  {DType::f32, DType::q4_k, DType::q4_k, DType::q5_0});
  for (const std::size_t n : {std::size_t{1}, std::size_t{3}, std::size_t{8}}) {
    OnDevice device(m, 8, 2);
    for (int step = 0; step < 4; step++) {
      const std::vector<float> x = random_floats(rng, n * 256);
      CHECK(same_bits(device.decode(x), run(m, x, 1, static_cast<std::int32_t>(n))));
    }
  }
}
