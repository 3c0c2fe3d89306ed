// float32 -> formats with one scale for a whole block and a few levels: ternary weights, signs, four-bit
// floats.
#pragma once

#include <stdint.h>

#include "kernels/cpu/quantize_fits.h"
#include "kernels/cpu/scaled_block.h"
#include "kernels/pack_blocks.h"

namespace cria::CRIA_ISA {

/// Rounds a block to levels of `scale`, packs them with `offset` added, and returns the scale's half. The
/// scale of a model that was trained with these levels is found exactly: rounding by anything near it leaves
/// no error.
template <class Levels, class Block>
CRIA_INLINE uint16_t quantize_levels(const ScaledBlock& s, float scale, int offset, Block& b) {
  constexpr int kSize = Block::kElements;
  const uint16_t half = store_scale(s, scale);
  const float inverse = inverse_or_zero(scale);
  int8_t q[kSize];
  for (int i = 0; i < kSize; i += 16)
    store_i8(q + i, Levels::nearest(load(s.x + i) * inverse) + static_cast<float>(offset), 16);
  pack_levels([&](int e) { return static_cast<int>(q[e]); }, b);
  return half;
}

using TernaryLevels = LinearLevels<-1, 1>;
// Where the extreme value of a block may fall, in levels: at 1 for ternary weights, further out for others.
constexpr float kTernaryFrom = 0.8f, kTernaryTo = 4.3f;

CRIA_INLINE float ternary_scale(const ScaledBlock& s, int n) {
  // The levels are symmetric, so that the scale's sign does not matter.
  return __builtin_fabsf(best_scale<TernaryLevels>({s.x, s.w, n}, kTernaryFrom, kTernaryTo));
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockTQ1_0& b) {
  b.d = quantize_levels<TernaryLevels>(s, ternary_scale(s, 256), 1, b);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockTQ2_0& b) {
  b.d = quantize_levels<TernaryLevels>(s, ternary_scale(s, 256), 1, b);
}

/// -1, 0, 1 and 2: the side with the extreme value has one level more.
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ2_0& b) {
  using Levels = LinearLevels<-1, 2>;
  b.d = quantize_levels<Levels>(s, best_scale<Levels>({s.x, s.w, 64}, 0.8f, 3.8f), 1, b);
}

/// Signs alone: the best magnitude is the weighted mean.
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ1_0& b) {
  float sum = 0.0f, weights = 0.0f;
  for (int i = 0; i < 128; i++) {
    sum += s.w[i] * __builtin_fabsf(s.x[i]);
    weights += s.w[i];
  }
  float scale = sum / weights;
  b.d = store_scale(s, scale);
  pack_levels([&](int e) { return s.x[e] < 0.0f ? 0 : 1; }, b);
}

/// The doubled values of a four-bit float (Fp4Values): 0, 1, 2, 3, 4, 6, 8, 12 and their negatives.
struct Fp4Levels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    F32x16 value = set1(-12.0f);
    constexpr float kMiddles[14] = {-10,  -7,   -5,   -3.5f, -2.5f, -1.5f, -0.5f,
                                    0.5f, 1.5f, 2.5f, 3.5f,  5,     7,     10};
    constexpr float kSteps[14] = {4, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 4};
    CRIA_UNROLL(14)
    for (int k = 0; k < 14; k++) value += zero_below(t, kMiddles[k], set1(kSteps[k]));
    return value;
  }
};

CRIA_INLINE int exponent_of(float power) { return static_cast<int>(float_bits(power) >> 23) - 127; }
CRIA_INLINE float power_of_two(int exponent) {
  return float_from_bits(static_cast<uint32_t>(exponent + 127) << 23);
}
constexpr int kMinMxExponent = -126, kMaxMxExponent = 124;

/// The scale is a power of two, 2^(e - 128): the best of those for which the largest value falls on 3 to 24.
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockMXFP4& b) {
  // The block's largest magnitude is in [1, 4).
  constexpr float kScales[kCandidates] = {0x1p-1f, 0x1p-2f, 0x1p-3f, 0x1p-4f, 0x1p-2f, 0x1p-3f,
                                          0x1p-4f, 0x1p-2f, 0x1p-3f, 0x1p-4f, 0x1p-2f, 0x1p-3f,
                                          0x1p-4f, 0x1p-2f, 0x1p-3f, 0x1p-4f};
  const F32x16 scales = load(kScales);
  const F32x16 errors = errors_of_scales<Fp4Levels>({s.x, s.w, 32}, scales);
  const float best = kScales[lane_of_max(0.0f - errors)];
  // The weights' own scale: not denormal, and so small that no value overflows.
  const int exponent = exponent_of(best) + exponent_of(s.unscaled);
  const int e = exponent < kMinMxExponent   ? kMinMxExponent
                : exponent > kMaxMxExponent ? kMaxMxExponent
                                            : exponent;
  b.e = static_cast<uint8_t>(e + 128);
  const float inverse = power_of_two(exponent - e) / best;
  int8_t q[32];
  for (int i = 0; i < 32; i += 16) store_i8(q + i, Fp4Levels::nearest(load(s.x + i) * inverse), 16);
  for (int i = 0; i < 32; i++) {
    const int magnitude = q[i] < 0 ? -q[i] : q[i];
    const int code = magnitude <= 4 ? magnitude : magnitude == 6 ? 5 : magnitude == 8 ? 6 : 7;
    q[i] = static_cast<int8_t>(q[i] < 0 ? code | 8 : code);
  }
  pack_levels([&](int i) { return static_cast<int>(q[i]); }, b);
}

}  // namespace cria::CRIA_ISA
