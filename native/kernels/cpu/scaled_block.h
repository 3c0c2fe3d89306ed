// A block of weights as the quantizers see it: scaled by a power of two, so that no sum overflows or is
// denormal, and with the weight of each value's squared error.
#pragma once

#include <stdint.h>

#include "core/float_bits.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int kMaxBlock = 256;

/// A block, scaled: x = values * factor.
struct ScaledBlock {
  float x[kMaxBlock], w[kMaxBlock];
  float factor;    // a power of two
  float unscaled;  // its inverse
};

/// The nearest half of a scale of the block, saturated; `value` becomes that half's, in the block's own
/// scale.
CRIA_INLINE uint16_t store_scale(const ScaledBlock& s, float& value) {
  float scaled = value * s.unscaled;
  scaled = scaled < -65504.0f ? -65504.0f : scaled > 65504.0f ? 65504.0f : scaled;
  const uint16_t half = f32_to_f16(scaled);
  value = f16_to_f32(half) * s.factor;
  return half;
}

/// The power of two that brings `max` into [1, 2); 1 for zero.
CRIA_INLINE float power_for(float max) {
  const uint32_t exponent = float_bits(max) >> 23;
  if (exponent == 0) return max == 0.0f ? 1.0f : 0x1p126f;
  // Beyond 2^126 the inverse would be denormal; [1, 4) will do there.
  const uint32_t inverse = exponent > 252 ? 1 : 254 - exponent;
  return float_from_bits(inverse << 23);
}

/// The part of an error's weight that is the same for all columns. An importance matrix is an estimate from
/// some text: on another, columns differ less.
constexpr float kEqualShare = 0.25f;

/// Loads a block of n values; false when all are zero. `importance` is null or [n]: the mean square of the
/// activations that each column is multiplied with, which is what an error of a weight there costs.
CRIA_INLINE bool load_block(const float* x, const float* importance, int n, ScaledBlock& s) {
  F32x16 largest = set1(0.0f);
  for (int i = 0; i < n; i += 16) largest = max(largest, abs(load(x + i)));
  const float max = reduce_max(largest);
  if (max == 0.0f) return false;
  s.factor = power_for(max);
  s.unscaled = 1.0f / s.factor;
  for (int i = 0; i < n; i += 16) store(s.x + i, load(x + i) * s.factor);
  if (importance == nullptr) {
    for (int i = 0; i < n; i += 16) store(s.w + i, set1(1.0f));
    return true;
  }
  F32x16 sum = set1(0.0f);
  for (int i = 0; i < n; i += 16) sum = sum + load(importance + i);
  const float mean = reduce_add(sum) / static_cast<float>(n);
  const float own = mean > 1e-30f ? (1.0f - kEqualShare) / mean : 0.0f;
  for (int i = 0; i < n; i += 16) store(s.w + i, load(importance + i) * own + kEqualShare);
  return true;
}

}  // namespace cria::CRIA_ISA
