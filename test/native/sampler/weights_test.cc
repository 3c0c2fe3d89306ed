#include "sampler/weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/float_bits.h"

using namespace cria;

TEST_CASE("the exponential is accurate, exact at 0 and ends at -80") {
  double worst = 0;
  for (int i = 0; i <= 8'000'000; i++) {
    const float x = static_cast<float>(i) * -1e-5f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::fabs(exp_nonpositive(splat4(x))[0] - exact) / exact);
  }
  CAPTURE(worst);
  CHECK(worst < 2e-7);
  CHECK(exp_nonpositive(splat4(0.0f))[0] == 1.0f);
  CHECK(exp_nonpositive(splat4(-0.0f))[3] == 1.0f);
  const float floor = exp_nonpositive(splat4(-80.0f))[1];
  CHECK(floor > 0.0f);
  CHECK(exp_nonpositive(splat4(-std::numeric_limits<float>::infinity()))[2] == floor);
}

TEST_CASE("weights are units of 2^-44 and vanish below") {
  CHECK(weight_of(0.0f, 1.0f) == std::uint64_t{1} << 44);
  CHECK(weight_of(0.0f, std::numeric_limits<float>::max()) == std::uint64_t{1} << 44);
  CHECK(weight_of(-1e-30f, 1e-30f) == std::uint64_t{1} << 44);
  CHECK(weight_of(-kWeightlessDistance, 1.0f) == 0);
  CHECK(weight_of(-30.49f, 1.0f) > 0);
  CHECK(weight_of(-std::numeric_limits<float>::infinity(), 1.0f) == 0);
  std::vector<float> x = {-3.5f, 0.25f, 1.0f, -40.0f,
                          0.5f,  1.0f,  0.0f, -std::numeric_limits<float>::infinity()};
  std::vector<std::uint64_t> weights(8);
  weights_of(x.data(), 7, 1.0f, 0.5f, weights.data());
  for (std::size_t i = 0; i < 7; i++) CHECK(weights[i] == weight_of(x[i] - 1.0f, 0.5f));
}

TEST_CASE("keys order tokens by descending logit, then by id") {
  std::mt19937 rng(2);
  std::vector<std::pair<float, std::uint32_t>> tokens;
  for (std::uint32_t id = 0; id < 3000; id++) {
    float logit = float_from_bits(static_cast<std::uint32_t>(rng()));
    if (std::isnan(logit) || id % 3 == 0) logit = static_cast<float>(static_cast<int>(rng() % 9) - 4) / 2;
    tokens.emplace_back(id % 50 == 0 ? -0.0f : logit, id);
  }
  auto by_key = tokens;
  std::shuffle(by_key.begin(), by_key.end(), rng);
  std::sort(by_key.begin(), by_key.end(), [](auto a, auto b) {
    return descending_key(a.first, a.second) < descending_key(b.first, b.second);
  });
  std::sort(tokens.begin(), tokens.end(),
            [](auto a, auto b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  CHECK(by_key == tokens);
  CHECK(id_of(descending_key(1.5f, 128255)) == 128255);
}

TEST_CASE("multiply_high is the upper half of the product") {
  std::mt19937_64 rng(3);
  for (int i = 0; i < 100'000; i++) {
    const std::uint64_t a = rng() >> rng() % 64, b = i % 7 == 0 ? ~std::uint64_t{0} : rng();
    REQUIRE(multiply_high(a, b) == static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b >> 64));
  }
}
