// Greedy choice against the CPU's rules, and sampling against native/sampler: the same token for the same
// logits.
#include "kernels/cuda/sample.h"

#include <algorithm>

#include "cuda/support.h"
#include "sampler/sampler.h"

using namespace cria;
using namespace cria::test;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::mt19937_64& rng, std::size_t vocab) {
  std::vector<float> logits = random_floats(rng, vocab, static_cast<float>(1 + rng() % 5));
  switch (rng() % 9) {
    case 0:  // ties
      for (float& v : logits) v = std::round(v);
      break;
    case 1:  // most forbidden
      for (float& v : logits)
        if (rng() % 4) v = -kInf;
      logits[rng() % vocab] = 1;
      break;
    case 2:  // one survivor
      std::fill(logits.begin(), logits.end(), -kInf);
      logits[rng() % vocab] = -2e38f;
      break;
    case 3:  // extreme
      for (float& v : logits) v *= 5e36f;
      break;
    case 4: std::sort(logits.begin(), logits.end()); break;
    case 5: std::fill(logits.begin(), logits.end(), rng() % 2 ? -0.0f : 3.0f); break;
    case 6:  // nearly the same
      for (float& v : logits) v = 1.0f + v * 1e-6f;
      break;
    default: break;
  }
  return logits;
}

SamplingParams random_params(std::mt19937_64& rng, std::uint32_t vocab) {
  const auto pick = [&](std::initializer_list<double> values) {
    return *(values.begin() + rng() % values.size());
  };
  SamplingParams params;
  params.temperature = pick({0.8, 1, 0.1, 2, 0, 1e-30, 1e-310, 1e6, 1e30, 1e308});
  if (rng() % 2) params.top_k = static_cast<std::int32_t>(1 + rng() % (rng() % 2 ? vocab + 5 : 40));
  if (rng() % 2) params.top_p = pick({0.95, 0.5, 0.1, 0.999, 0});
  if (rng() % 3 == 0) params.min_p = pick({0.05, 0.5, 1e-4, 1});
  params.seed = rng();
  return params;
}

}  // namespace

TEST_CASE("greedy: the lowest id of the maximum, and log-sum-exp against float64") {
  CRIA_SEEDED_RNG(rng);
  for (const std::int64_t vocab : {1, 2, 31, 512, 8191, 8192, 8193, 20000, 32003}) {
    CAPTURE(vocab);
    const std::int32_t rows = 3;
    const auto n = static_cast<std::size_t>(vocab);
    std::vector<float> logits = random_floats(rng, 3 * n, 4.0f);
    for (std::size_t i = 0; i < n; i++) logits[n + i] = std::round(logits[n + i]);  // ties
    for (std::size_t i = 0; i < n; i += 3) logits[2 * n + i] = -kInf;
    logits[2 * n + n / 2] = 1;
    const DeviceArray<float> x(logits), lse(3);
    const DeviceArray<std::uint32_t> argmax(3);
    const DeviceArray<unsigned char> workspace(cuda::greedy_workspace_bytes(rows, vocab));
    cuda::fill_bytes(workspace.data(), 0, workspace.size(), nullptr);
    for (int i = 0; i < 2; i++)
      cuda::greedy(x.data(), rows, vocab, argmax.data(), lse.data(), workspace.data(), nullptr);
    for (std::size_t r = 0; r < 3; r++) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(r * n), end = begin + vocab;
      const auto top = std::max_element(begin, end);
      double sum = 0;
      for (auto v = begin; v != end; ++v) sum += std::exp(static_cast<double>(*v) - *top);
      CHECK(argmax.get()[r] == top - begin);
      CHECK(lse.get()[r] == doctest::Approx(*top + std::log(sum)).epsilon(1e-6));
    }
    // The same bits alone.
    const DeviceArray<float> alone(1);
    cuda::greedy(x.data() + n, 1, vocab, argmax.data(), alone.data(), workspace.data(), nullptr);
    CHECK(std::memcmp(alone.get().data(), lse.get().data() + 1, 4) == 0);

    for (const float bad : {kInf, static_cast<float>(NAN)}) {
      std::vector<float> broken = logits;
      broken[n + rng() % n] = bad;
      const DeviceArray<float> y(broken);
      cuda::greedy(y.data(), rows, vocab, argmax.data(), lse.data(), workspace.data(), nullptr);
      CHECK(std::isnan(lse.get()[1]));
      CHECK(argmax.get()[1] < n);
      CHECK(!std::isnan(lse.get()[0]));
    }
  }
}

TEST_CASE("the draw is native/sampler's") {
  CRIA_SEEDED_RNG(rng);
  int compared = 0;
  for (int round = 0; round < 25; round++) {
    const auto vocab = static_cast<std::uint32_t>(round % 12 == 11 ? 5000 + rng() % 5000 : 1 + rng() % 700);
    const std::int32_t rows = 40;
    std::vector<float> logits;
    std::vector<cuda::TokenSampling> sampling;
    std::vector<std::uint32_t> expected;
    for (std::int32_t r = 0; r < rows; r++) {
      const std::vector<float> row = random_logits(rng, vocab);
      logits.insert(logits.end(), row.begin(), row.end());
      const SamplingParams p = random_params(rng, vocab);
      const std::uint64_t position = rng();
      expected.push_back(Sampler(p, vocab).sample(row, {}, position).id);
      sampling.push_back(cuda::token_sampling({.temperature = p.temperature,
                                               .top_k = p.top_k,
                                               .top_p = p.top_p,
                                               .min_p = p.min_p,
                                               .seed = p.seed,
                                               .position = position}));
    }
    const DeviceArray<float> x(logits);
    const DeviceArray<cuda::TokenSampling> s(sampling);
    const DeviceArray<std::uint32_t> ids(static_cast<std::size_t>(rows));
    cuda::sample(x.data(), rows, vocab, s.data(), ids.data(), nullptr);
    const std::vector<std::uint32_t> found = ids.get();
    CAPTURE(vocab);
    for (std::size_t r = 0; r < found.size(); r++) {
      CAPTURE(r);
      CAPTURE(sampling[r].top_k);
      CAPTURE(sampling[r].top_p);
      CAPTURE(sampling[r].inverse_temperature);
      CHECK(found[r] == expected[r]);
      compared++;
    }
  }
  MESSAGE(compared << " draws");
}

TEST_CASE("logits that are not finite give no token") {
  std::vector<float> logits(3 * 100, 1.0f);
  logits[50] = NAN;
  logits[150] = kInf;
  std::fill(logits.begin() + 200, logits.end(), -kInf);
  const DeviceArray<float> x(logits);
  for (const double temperature : {0.0, 1.0}) {
    const DeviceArray<cuda::TokenSampling> s(
        std::vector<cuda::TokenSampling>(3, cuda::token_sampling({.temperature = temperature,
                                                                  .top_k = 40,
                                                                  .top_p = 0.9,
                                                                  .min_p = 0.1,
                                                                  .seed = 1,
                                                                  .position = 2})));
    const DeviceArray<std::uint32_t> ids(3);
    cuda::sample(x.data(), 3, 100, s.data(), ids.data(), nullptr);
    CHECK(ids.get() == std::vector<std::uint32_t>(3, kSampleOnHost));
  }
}
