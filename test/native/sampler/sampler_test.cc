#include "sampler/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <random>
#include <string>

#include "core/error.h"
#include "sampler_reference.h"

using namespace cria;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
thread_local std::size_t allocations = 0;

std::vector<float> random_logits(std::mt19937& rng, std::size_t vocab) {
  std::normal_distribution<float> normal(0, static_cast<float>(1 + rng() % 5));
  std::vector<float> logits(vocab);
  for (float& v : logits) v = normal(rng);
  switch (rng() % 8) {
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
    default: break;
  }
  return logits;
}

SamplingParams random_params(std::mt19937& rng, std::uint32_t vocab) {
  const auto pick = [&](std::initializer_list<double> values) {
    return *(values.begin() + rng() % values.size());
  };
  SamplingParams params;
  params.temperature = pick({0.8, 1, 0.1, 2, 0, 1e-30, 1e-310, 1e6, 1e30});
  if (rng() % 2) params.top_k = static_cast<std::int32_t>(1 + rng() % (rng() % 2 ? vocab + 5 : 40));
  if (rng() % 2) params.top_p = pick({0.95, 0.5, 0.1, 0.999, 0});
  if (rng() % 3 == 0) params.min_p = pick({0.05, 0.5, 1e-4, 1});
  if (rng() % 3 == 0) params.typical_p = pick({0.95, 0.5, 0.2, 0});
  if (rng() % 3 == 0) {
    params.repetition_penalty = pick({1.1, 1.3, 0.8});
    params.frequency_penalty = pick({0, 0.5, -0.3});
    params.presence_penalty = pick({0, 0.7, -0.2});
    params.penalty_window = static_cast<std::int32_t>(pick({-1, 0, 1, 20, 64}));
  }
  if (rng() % 4 == 0)
    params.logit_bias = {{static_cast<std::uint32_t>(rng() % vocab), static_cast<float>(rng() % 9) - 4}};
  params.seed = rng();
  return params;
}

/// What one draw over `logits` at a few positions and the reference disagree about; counts the cases too
/// close to call.
void compare(const SamplingParams& params, const std::vector<float>& logits,
             const std::vector<std::uint32_t>& history, int& compared, int& close) {
  Sampler sampler(params, static_cast<std::uint32_t>(logits.size()));
  const SamplerReference reference = sampler_reference(params, logits, history);
  for (std::uint64_t position = 0; position < 4; position++) {
    SamplerReference of_position = reference;
    const std::uint32_t expected = of_position.choose(uniform(params.seed, position));
    const std::uint32_t found = sampler.sample(logits, history, position).id;
    if (of_position.margin < 2e-6) {
      close++;
    } else {
      compared++;
      CAPTURE(position);
      CAPTURE(of_position.margin);
      REQUIRE(found == expected);
    }
  }
}

std::uint32_t greedy(SamplingParams params, const std::vector<float>& logits,
                     const std::vector<std::uint32_t>& history) {
  params.temperature = 0;
  return Sampler(params, static_cast<std::uint32_t>(logits.size()))
      .sample(logits, history, history.size())
      .id;
}

/// The set of tokens that 2,000 positions yield.
std::vector<std::uint32_t> support(const SamplingParams& params, const std::vector<float>& logits) {
  Sampler sampler(params, static_cast<std::uint32_t>(logits.size()));
  std::vector<std::uint32_t> ids;
  for (std::uint64_t position = 0; position < 2000; position++)
    ids.push_back(sampler.sample(logits, {}, position).id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

ErrorCode failure(const SamplingParams& params, const std::vector<float>& logits,
                  const std::vector<std::uint32_t>& history = {}) {
  try {
    Sampler(params, 4).sample(logits, history, 0);
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

using Ids = std::vector<std::uint32_t>;

}  // namespace

void* operator new(std::size_t size) {
  allocations++;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  allocations++;
  return std::malloc(size ? size : 1);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE("every combination of stages agrees with the plain reference") {
  int compared = 0, close = 0;
  for (unsigned seed = 0; seed < 6000; seed++) {
    CAPTURE(seed);
    std::mt19937 rng(seed);
    const std::uint32_t sizes[] = {1, 2, 5, 6, 63, 64, 65, 129, 512, 1000, 3000};
    const std::uint32_t vocab = sizes[rng() % 11];
    Ids history(rng() % 100);
    for (auto& id : history) id = static_cast<std::uint32_t>(rng() % vocab);
    const auto logits = random_logits(rng, vocab);
    compare(random_params(rng, vocab), logits, history, compared, close);
  }
  CAPTURE(close);
  CHECK(close < compared / 20);
}

TEST_CASE("a vocabulary of 128,256 agrees with the plain reference") {
  int compared = 0, close = 0;
  for (unsigned seed = 0; seed < 60; seed++) {
    CAPTURE(seed);
    std::mt19937 rng(seed);
    Ids history(500);
    for (auto& id : history) id = static_cast<std::uint32_t>(rng() % 128256);
    const auto logits = random_logits(rng, 128256);
    compare(random_params(rng, 128256), logits, history, compared, close);
  }
  CAPTURE(close);
  CHECK(close < compared / 4);  // 100,000 boundaries lie close
}

TEST_CASE("tokens are drawn as often as their probabilities say") {
  const std::vector<float> logits = {1.5f, -0.5f, 0.25f, -kInf, 2.0f, 0.0f};
  for (double temperature : {0.5, 1.0, 3.0}) {
    SamplingParams params;
    params.temperature = temperature;
    params.seed = 99;
    Sampler sampler(params, 6);
    const SamplerReference reference = sampler_reference(params, logits, {});
    constexpr int kDraws = 200'000;
    int counts[6] = {};
    for (std::uint64_t i = 0; i < kDraws; i++) counts[sampler.sample(logits, {}, i).id]++;
    CHECK(counts[3] == 0);
    double chi_square = 0;
    for (std::size_t i = 0; i < reference.kept.size(); i++) {
      const double expected = reference.probabilities[i] * kDraws;
      chi_square += std::pow(counts[reference.kept[i]] - expected, 2) / expected;
    }
    CHECK(chi_square < 23.5);  // 4 degrees of freedom: exceeded once in 10,000
  }
}

TEST_CASE("each filter keeps what it should") {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  SamplingParams params;
  CHECK(support(params, logits) == Ids{0, 1, 2, 3});
  params.top_k = 2;
  CHECK(support(params, logits) == Ids{1, 3});
  params.top_k = 9;
  CHECK(support(params, logits) == Ids{0, 1, 2, 3});
  params.top_k = 0;
  params.top_p = 0.69;
  CHECK(support(params, logits) == Ids{1, 3});
  params.top_p = 0.71;
  CHECK(support(params, logits) == Ids{1, 2, 3});
  params.top_k = 2;  // the two kept hold 4/7 and 3/7
  params.top_p = 0.55;
  CHECK(support(params, logits) == Ids{1});
  params.top_k = 0;
  params.top_p = 0;
  CHECK(support(params, logits) == Ids{1});
  params.top_p = 1;
  params.min_p = 0.6;
  CHECK(support(params, logits) == Ids{1, 3});
  params.min_p = 1;
  CHECK(support(params, logits) == Ids{1});
  params.min_p = 0;
  params.typical_p = 0.25;  // entropy 1.28: exp(-1.28) = 0.28, so 0.3 is the most typical
  CHECK(support(params, logits) == Ids{3});
  params.typical_p = 0.6;  // then 0.2 (1.61) or 0.4 (0.92): 0.33 and 0.36 away
  CHECK(support(params, logits) == Ids{1, 2, 3});
  params = {};
  params.top_p = 0.5;
  CHECK(support(params, std::vector<float>(4, 7.0f)) == Ids{0, 1});  // equal: the lowest ids
  params = {};
  params.top_k = 3;
  CHECK(support(params, std::vector<float>(1000, -2.0f)) == Ids{0, 1, 2});
}

TEST_CASE("greedy takes the maximum, the lowest id among equals") {
  CHECK(greedy({}, {0, 3, 3, 1}, {}) == 1);
  CHECK(greedy({}, {-0.0f, 0.0f}, {}) == 0);
  CHECK(greedy({}, {-kInf, -3e38f}, {}) == 1);
  std::vector<float> logits(1000, -1.0f);
  logits[777] = logits[901] = 5;
  CHECK(greedy({}, logits, {}) == 777);
  SamplingParams cold;
  cold.temperature = 1e-300;
  CHECK(support(cold, {1, 5, 4.9999995f}) == Ids{1});
}

TEST_CASE("penalties apply to the tokens of the window") {
  const std::vector<float> logits = {2.0f, 1.9f, -1.0f, 0.5f};
  SamplingParams params;
  params.repetition_penalty = 1.2;
  CHECK(greedy(params, logits, {}) == 0);
  CHECK(greedy(params, logits, {0}) == 1);           // 2 / 1.2 = 1.67
  CHECK(greedy(params, logits, {0, 0, 0, 1}) == 0);  // counted once: 1.67 against 1.58
  CHECK(greedy(params, {-1.0f, -1.1f}, {0}) == 1);   // negative: multiplied
  params.penalty_window = 2;
  CHECK(greedy(params, logits, {0, 3, 3}) == 0);
  CHECK(greedy(params, logits, {3, 0, 3}) == 1);
  params.penalty_window = 0;
  CHECK(greedy(params, logits, {0}) == 0);
  params = {};
  params.frequency_penalty = 0.06;
  CHECK(greedy(params, logits, {0}) == 0);
  CHECK(greedy(params, logits, {0, 0}) == 1);
  CHECK(greedy(params, logits, {0, 0, 1, 1}) == 0);
  params = {};
  params.presence_penalty = 0.15;
  CHECK(greedy(params, logits, {0}) == 1);
  CHECK(greedy(params, logits, {0, 0, 0, 1}) == 0);
  params.presence_penalty = -2;
  CHECK(greedy(params, logits, {3}) == 3);
  params = {};
  params.repetition_penalty = 1e-300;  // beyond float32: stays a finite logit
  CHECK(greedy(params, logits, {3}) == 3);
  params.repetition_penalty = 1e300;
  CHECK(greedy(params, {-1.0f, -kInf}, {0}) == 0);
}

TEST_CASE("a bias moves or forbids a token, before the penalties") {
  SamplingParams params;
  params.logit_bias = {{0, -kInf}, {3, 1.5f}};
  CHECK(greedy(params, {2.0f, 1.9f, -1.0f, 0.5f}, {}) == 3);
  CHECK(support(params, {2.0f, 1.9f, -1.0f, 0.5f}) == Ids{1, 2, 3});
  params.logit_bias = {{0, -3.0f}};
  params.repetition_penalty = 2;
  CHECK(greedy(params, {2.0f, -1.5f}, {0}) == 1);  // 2 - 3 = -1, doubled; not 2 / 2 - 3
  params.logit_bias = {{1, 3e38f}};
  CHECK(greedy(params, {2.0f, 3e38f}, {}) == 1);
  CHECK(greedy(params, {2.0f, -kInf}, {}) == 0);
}

TEST_CASE("log-probabilities are the unmodified model's") {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(3000);
  for (float& v : logits) v = normal(rng);
  logits[10] = logits[20] = logits[2999] = 15;
  logits[11] = -kInf;
  double total = 0;
  for (float v : logits) total += std::exp(double{v});
  SamplingParams params;
  params.temperature = 0.5;
  params.top_k = 50;
  params.repetition_penalty = 1.5;
  params.logit_bias = {{10, -kInf}, {2999, 0.5f}};
  params.logprobs = 7;
  Sampler sampler(params, 3000);
  const Ids history = {20, 30};
  for (std::uint64_t position = 0; position < 50; position++) {
    const SampledToken token = sampler.sample(logits, history, position);
    REQUIRE(token.id != 10);
    REQUIRE(token.logprob == doctest::Approx(logits[token.id] - std::log(total)).epsilon(1e-6));
    REQUIRE(token.top.size() == 7);
    REQUIRE(token.top[0].id == 10);
    REQUIRE(token.top[1].id == 20);
    REQUIRE(token.top[2].id == 2999);
    for (std::size_t i = 0; i < 7; i++) {
      REQUIRE(token.top[i].logprob ==
              doctest::Approx(logits[token.top[i].id] - std::log(total)).epsilon(1e-6));
      REQUIRE(std::count_if(logits.begin(), logits.end(), [&](float v) {
                return v > logits[token.top[i].id];
              }) <= static_cast<std::ptrdiff_t>(i));
    }
  }
  params = {};
  params.logprobs = 4;
  const auto few = Sampler(params, 4).sample(std::vector<float>{-kInf, 1, -kInf, 2}, {}, 0);
  CHECK(few.top.size() == 2);
  CHECK(few.top[0].id == 3);
  params.logprobs = 0;
  const auto none = Sampler(params, 4).sample(std::vector<float>{0, 0, 0, 0}, {}, 0);
  CHECK(none.top.empty());
  CHECK(none.logprob == doctest::Approx(std::log(0.25)));
}

TEST_CASE("a token depends on nothing but its inputs") {
  std::mt19937 rng(6);
  SamplingParams params;
  params.top_k = 40;
  params.top_p = 0.9;
  params.presence_penalty = 0.3;
  params.penalty_window = 8;
  params.seed = 0xdeadbeefcafe;
  std::vector<std::vector<float>> logits(20);
  for (auto& row : logits) row = random_logits(rng, 1000);
  Ids history(64), ids;
  for (auto& id : history) id = static_cast<std::uint32_t>(rng() % 1000);
  Sampler forward(params, 1000), backward(params, 1000);
  for (std::size_t i = 0; i < 20; i++) ids.push_back(forward.sample(logits[i], history, i).id);
  const Ids recent(history.end() - 8, history.end());
  for (std::size_t i = 20; i-- > 0;) {
    CHECK(backward.sample(logits[i], history, i).id == ids[i]);
    CHECK(backward.sample(logits[i], recent, i).id == ids[i]);
  }
  SamplingParams open;
  const std::vector<float> flat(50'000, 0.0f);
  Ids first, second;
  for (std::uint64_t seed : {1u, 2u}) {
    open.seed = seed;
    Sampler sampler(open, 50'000);
    for (std::uint64_t i = 0; i < 5; i++)
      (seed == 1 ? first : second).push_back(sampler.sample(flat, {}, i).id);
  }
  CHECK(first != second);
}

TEST_CASE("nothing is allocated once the scratch has grown") {
  std::mt19937 rng(7);
  for (unsigned seed = 0; seed < 40; seed++) {
    SamplingParams params = random_params(rng, 3000);
    Sampler sampler(params, 3000);
    auto logits = random_logits(rng, 3000);
    const Ids history = {1, 2, 3, 1};
    sampler.sample(logits, history, 0);
    const std::size_t before = allocations;
    for (std::uint64_t position = 1; position < 5; position++) sampler.sample(logits, history, position);
    CHECK(allocations == before);
  }
}

TEST_CASE("what cannot be sampled is an error with a code") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  SamplingParams params;
  for (double temperature : {0.0, 1.0}) {
    params.temperature = temperature;
    CHECK(failure(params, {0, nan, 0, 0}) == ErrorCode::invalid_model);
    CHECK(failure(params, {nan, nan, nan, nan}) == ErrorCode::invalid_model);
    CHECK(failure(params, {0, 0, 0, kInf}) == ErrorCode::invalid_model);
    CHECK(failure(params, {-kInf, -kInf, -kInf, -kInf}) == ErrorCode::invalid_model);
  }
  CHECK(failure(params, {0, 0, 0}) == ErrorCode::internal);
  params.logit_bias = {{0, -kInf}, {1, -kInf}, {2, -kInf}};
  CHECK(failure(params, {0, 0, 0, -kInf}) == ErrorCode::invalid_argument);
  params = {};
  params.presence_penalty = 1;
  CHECK(failure(params, {0, 0, 0, 0}, {4}) == ErrorCode::invalid_argument);
  params.top_k = -1;
  CHECK_THROWS_AS(Sampler(params, 4), Error);
  CHECK_THROWS_AS(Sampler({}, 0), Error);
  // NaN in any lane of a block and in the rest beside whole blocks.
  for (std::size_t at = 0; at < 200; at++) {
    std::vector<float> logits(200, 1.0f);
    logits[at] = nan;
    Sampler sampler({}, 200);
    CHECK_THROWS_AS(sampler.sample(logits, {}, 0), Error);
    logits[at] = 2;
    CHECK(greedy({}, logits, {}) == at);
  }
}
