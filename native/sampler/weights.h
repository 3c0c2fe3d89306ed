// The sampler's loops over the vocabulary, four logits at a time (core/sampling_math.h).
//
// They use the compilers' portable vectors (GCC, Clang: SSE2 or NEON, both part of the baseline), because
// automatic vectorisation gives up on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/sampling_math.h"

namespace cria {

/// Logits this far below the largest weigh 0 at temperature 1: 44 ln 2 = 30.498...
inline constexpr float kWeightlessDistance = 30.5f;

using Float4 = float __attribute__((vector_size(16)));
using Int4 = std::int32_t __attribute__((vector_size(16)));
using Unsigned4 = std::uint32_t __attribute__((vector_size(16)));

inline Float4 load4(const float* x) {
  Float4 v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

inline Float4 splat4(float x) { return Float4{x, x, x, x}; }

inline Float4 exp_nonpositive(Float4 x) { return exp_nonpositive_as<Float4, Unsigned4>(x); }

/// weights[i] of the logits x[i]; both have room for n rounded up to a multiple of four.
inline void weights_of(const float* x, std::size_t n, float max_logit, float inverse_temperature,
                       std::uint64_t* weights) {
  for (std::size_t i = 0; i < n; i += 4) {
    const Float4 w = exp_nonpositive((load4(x + i) - max_logit) * inverse_temperature) * kWeightOne;
    for (std::size_t l = 0; l < 4; l++)
      weights[i + l] = static_cast<std::uint64_t>(static_cast<std::int64_t>(w[l]));
  }
}

inline std::uint32_t id_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

}  // namespace cria
