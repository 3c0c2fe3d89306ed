#include "sampler/params.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "core/error.h"

using namespace cria;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kInfF32 = std::numeric_limits<float>::infinity();

/// The field that check() complains about, "" when it does not.
std::string complaint(const std::function<void(SamplingParams&)>& change) {
  SamplingParams params;
  change(params);
  try {
    params.check(100);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    REQUIRE(error.details().size() == 3);
    CHECK(error.details()[1].name == "expected");
    CHECK(error.details()[2].name == "found");
    const auto field = error.details()[0].value.text();
    CHECK(std::string(error.what()).find(field) == 0);
    return field;
  }
  return "";
}

void check_range(const std::string& field, double SamplingParams::* member,
                 std::initializer_list<double> good, std::initializer_list<double> bad) {
  CAPTURE(field);
  for (double value : good) {
    CAPTURE(value);
    CHECK(complaint([&](SamplingParams& p) { p.*member = value; }) == "");
  }
  for (double value : bad) {
    CAPTURE(value);
    CHECK(complaint([&](SamplingParams& p) { p.*member = value; }) == field);
  }
}

}  // namespace

TEST_CASE("each number has its range and its name in the error") {
  CHECK(complaint([](SamplingParams&) {}) == "");
  check_range("temperature", &SamplingParams::temperature, {0, 1e-300, 0.7, 1e300}, {-0.1, kNan, kInf});
  check_range("topP", &SamplingParams::top_p, {0, 0.5, 1}, {-0.1, 1.1, kNan});
  check_range("minP", &SamplingParams::min_p, {0, 0.5, 1}, {-0.1, 1.1, kNan});
  check_range("typicalP", &SamplingParams::typical_p, {0, 0.5, 1}, {-0.1, 1.1, kNan});
  check_range("repetitionPenalty", &SamplingParams::repetition_penalty, {1e-3, 1, 2}, {0, -1, kNan, kInf});
  check_range("frequencyPenalty", &SamplingParams::frequency_penalty, {-2, 0, 2}, {kNan, kInf, -kInf, 1e39});
  check_range("presencePenalty", &SamplingParams::presence_penalty, {-2, 0, 2}, {kNan, kInf, -kInf, 1e39});
  CHECK(complaint([](SamplingParams& p) { p.top_k = -1; }) == "topK");
  CHECK(complaint([](SamplingParams& p) { p.top_k = 1000; }) == "");
  CHECK(complaint([](SamplingParams& p) { p.penalty_window = -2; }) == "penaltyWindow");
  CHECK(complaint([](SamplingParams& p) { p.penalty_window = 0; }) == "");
  CHECK(complaint([](SamplingParams& p) { p.logprobs = 100; }) == "");
  CHECK(complaint([](SamplingParams& p) { p.logprobs = 101; }) == "logprobs");
  CHECK(complaint([](SamplingParams& p) { p.logprobs = -2; }) == "logprobs");
}

TEST_CASE("logit biases name tokens of the vocabulary, each once") {
  CHECK(complaint([](SamplingParams& p) { p.logit_bias = {{99, 1.0f}, {0, -kInfF32}}; }) == "");
  CHECK(complaint([](SamplingParams& p) { p.logit_bias = {{100, 1.0f}}; }) == "logitBias");
  CHECK(complaint([](SamplingParams& p) { p.logit_bias = {{5, 1.0f}, {6, 1.0f}, {5, 2.0f}}; }) ==
        "logitBias");
  CHECK(complaint([](SamplingParams& p) { p.logit_bias = {{5, kInfF32}}; }) == "logitBias");
  CHECK(complaint([](SamplingParams& p) { p.logit_bias = {{5, std::nanf("")}}; }) == "logitBias");
}

TEST_CASE("the message says what was expected and what came") {
  SamplingParams params;
  params.top_p = 1.5;
  CHECK_THROWS_WITH_AS(params.check(10), "topP must be a number from 0 to 1, not 1.5", Error);
}
