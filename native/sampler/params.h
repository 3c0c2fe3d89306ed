// What a request asks of the sampler; the fields are those of NativeSamplingParams in lib/native.ts. The
// defaults leave the model's distribution as it is.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace cria {

struct SamplingParams {
  double temperature = 1;            // >= 0; 0: greedy
  std::int32_t top_k = 0;            // >= 0; 0: off
  double top_p = 1;                  // 0..1; 1: off. 0 keeps the first token alone, as for typical_p
  double min_p = 0;                  // 0..1; 0: off
  double typical_p = 1;              // 0..1; 1: off
  double repetition_penalty = 1;     // > 0; 1: off
  double frequency_penalty = 0;      // finite; 0: off
  double presence_penalty = 0;       // finite; 0: off
  std::int32_t penalty_window = -1;  // last tokens that the penalties look at, prompt included; -1: all
  std::vector<std::pair<std::uint32_t, float>> logit_bias;  // each id once; -infinity forbids a token
  std::uint64_t seed = 0;
  std::int32_t logprobs =
      -1;  // most likely alternatives reported per token, up to the vocabulary; -1: none at all

  /// Throws ERR_INVALID_ARGUMENT naming the field (in JavaScript's spelling), what is expected and what was
  /// found.
  void check(std::uint32_t vocab_size) const;
};

}  // namespace cria
