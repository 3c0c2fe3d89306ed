// Arithmetic of the sampler: probabilities as integers, and tokens in a strict order.
//
// A token's weight is exp((logit - largest logit) / temperature) in units of 2^-44. Integers sum to the same
// total in any order, so a choice made from them cannot depend on vector width, threads or a library's
// partition order. The exponential is made of single float32 operations for the same reason. A weight below
// 2^-44 of the largest is 0.
//
// The loops over the vocabulary use the compilers' portable vectors of four (GCC, Clang: SSE2 or NEON, both
// part of the baseline), because automatic vectorisation gives up on them.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/float_bits.h"

namespace cria {

inline constexpr float kWeightOne = 0x1p44f;
/// Logits this far below the largest weigh 0 at temperature 1: 44 ln 2 = 30.498...
inline constexpr float kWeightlessDistance = 30.5f;

using Float4 = float __attribute__((vector_size(16)));
using Int4 = std::int32_t __attribute__((vector_size(16)));

inline Float4 load4(const float* x) {
  Float4 v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

inline Float4 splat4(float x) { return Float4{x, x, x, x}; }

/// exp(x) for x <= 0, relative error below 2e-7; exactly 1 at 0; x below -80 counts as -80.
/// Source of the reduction and the polynomial: Moshier's Cephes library, expf.
inline Float4 exp_nonpositive(Float4 x) {
  x = x > -80.0f ? x : splat4(-80.0f);
  const Float4 shifted = x * 1.44269504088896341f + 0x1.8p23f;  // the integer is in the low mantissa bits
  const Float4 n = shifted - 0x1.8p23f;
  const Float4 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Float4 p = splat4(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  using Unsigned4 = std::uint32_t __attribute__((vector_size(16)));  // wraps when n is negative, as it should
  return reinterpret_cast<Float4>(reinterpret_cast<Unsigned4>(p) +
                                  (reinterpret_cast<Unsigned4>(shifted) << 23));
}

/// weights[i] of the logits x[i]; both have room for n rounded up to a multiple of four.
inline void weights_of(const float* x, std::size_t n, float max_logit, float inverse_temperature,
                       std::uint64_t* weights) {
  for (std::size_t i = 0; i < n; i += 4) {
    const Float4 w = exp_nonpositive((load4(x + i) - max_logit) * inverse_temperature) * kWeightOne;
    for (std::size_t l = 0; l < 4; l++)
      weights[i + l] = static_cast<std::uint64_t>(static_cast<std::int64_t>(w[l]));
  }
}

/// The weight of a logit `distance` <= 0 above the largest.
inline std::uint64_t weight_of(float distance, float inverse_temperature) {
  const Float4 weight = exp_nonpositive(splat4(distance * inverse_temperature)) * kWeightOne;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(weight[0]));
}

/// Bits ordered like the floats. `value` is not NaN; -0 and 0 are one value.
inline std::uint32_t ascending_bits(float value) {
  const std::uint32_t bits = float_bits(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// The order of tokens: largest logit first, lowest id among equals. Keys are unique, so sorting and partial
/// sorting have one outcome on every platform.
inline std::uint64_t descending_key(float logit, std::uint32_t id) {
  return std::uint64_t{~ascending_bits(logit)} << 32 | id;
}

inline std::uint32_t id_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

/// The upper 64 bits of a * b.
inline std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  const std::uint64_t lower = a0 * b1 + (middle & 0xffffffffu);
  return a1 * b1 + (middle >> 32) + (lower >> 32);
}

}  // namespace cria
