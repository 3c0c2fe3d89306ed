// Sampling parameters of a request; the fields are those of NativeSamplingParams in lib/native.ts. The
// defaults leave the model's distribution unchanged.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace cria {

struct SamplingParams {
  double temperature = 1;         // >= 0; 0: greedy
  std::int32_t top_k = 0;         // >= 0; 0: off
  double top_p = 1;               // 0..1; 1: off; 0 keeps only the first token
  double min_p = 0;               // 0..1; 0: off
  double typical_p = 1;           // 0..1; 1: off; 0 keeps only the first token
  double repetition_penalty = 1;  // > 0; 1: off
  double frequency_penalty = 0;   // finite; 0: off
  double presence_penalty = 0;    // finite; 0: off
  // The last tokens that the penalties count, prompt included; -1: all.
  std::int32_t penalty_window = -1;
  // Each id once; -infinity forbids a token.
  std::vector<std::pair<std::uint32_t, float>> logit_bias;
  std::uint64_t seed = 0;
  // How many of the most likely tokens to report with each token; -1: no log-probabilities at all.
  std::int32_t logprobs = -1;

  /// Throws ERR_INVALID_ARGUMENT, which names the field as JavaScript spells it, what was expected and what
  /// was found.
  void check(std::uint32_t vocab_size) const;
};

}  // namespace cria
