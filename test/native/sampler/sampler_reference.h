// The sampler's stages once more, in double and as plainly as can be: whole sorts, no blocks, no integers.
#pragma once

#include <cstdint>
#include <vector>

#include "sampler/params.h"

namespace cria {

struct SamplerReference {
  std::vector<std::uint32_t> kept;    // ascending ids
  std::vector<double> probabilities;  // of the kept, after temperature
  double margin = 1;                  // how far the closest cut is from going the other way

  /// The token for a uniform `u`; lowers `margin` by the distance to the next boundary.
  std::uint32_t choose(double u);
};

/// Philox's bits for the token at `position`, as a fraction in [0, 1): the upper 53, exact.
double uniform(std::uint64_t seed, std::uint64_t position);

SamplerReference sampler_reference(const SamplingParams& params, const std::vector<float>& logits,
                                   const std::vector<std::uint32_t>& history);

}  // namespace cria
