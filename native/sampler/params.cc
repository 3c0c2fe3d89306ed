#include "sampler/params.h"

#include <algorithm>
#include <cfloat>
#include <cstdio>
#include <string>

#include "core/error.h"

namespace cria {
namespace {

std::string spell(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

[[noreturn]] void reject(const std::string& field, const std::string& expected, double found) {
  throw Error(ErrorCode::invalid_argument, field + " must be " + expected + ", not " + spell(found),
              {{"field", field}, {"expected", expected}, {"found", found}});
}

/// NaN is outside every range.
void require_range(const char* field, double value, double least, double most, const char* expected) {
  if (!(value >= least && value <= most)) reject(field, expected, value);
}

}  // namespace

void SamplingParams::check(std::uint32_t vocab_size) const {
  require_range("temperature", temperature, 0, DBL_MAX, "a finite number >= 0");
  require_range("topK", top_k, 0, DBL_MAX, "an integer >= 0");
  require_range("topP", top_p, 0, 1, "a number from 0 to 1");
  require_range("minP", min_p, 0, 1, "a number from 0 to 1");
  require_range("typicalP", typical_p, 0, 1, "a number from 0 to 1");
  require_range("repetitionPenalty", repetition_penalty, DBL_TRUE_MIN, DBL_MAX, "a finite number > 0");
  require_range("frequencyPenalty", frequency_penalty, -FLT_MAX, FLT_MAX, "a finite float32");
  require_range("presencePenalty", presence_penalty, -FLT_MAX, FLT_MAX, "a finite float32");
  require_range("penaltyWindow", penalty_window, -1, DBL_MAX, "an integer >= 0, or -1 for all tokens");
  const std::string most_logprobs =
      "an integer from 0 to the vocabulary's size (" + std::to_string(vocab_size) + "), or -1 for none";
  require_range("logprobs", logprobs, -1, vocab_size, most_logprobs.c_str());

  std::vector<std::uint32_t> ids;
  ids.reserve(logit_bias.size());
  for (const auto& [id, bias] : logit_bias) {
    if (id >= vocab_size)
      reject("logitBias", "for ids below the vocabulary's size (" + std::to_string(vocab_size) + ")", id);
    if (!(bias <= FLT_MAX))
      reject("logitBias", "a finite number or -Infinity for id " + std::to_string(id), bias);
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice != ids.end()) reject("logitBias", "given once for each id", *twice);
}

}  // namespace cria
