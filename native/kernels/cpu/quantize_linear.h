// float32 -> blocks whose values are a scale times a level, perhaps with a minimum: Q4_0 to Q6_K, IQ4_NL and
// IQ4_XS.
//
// Scales that a format keeps as integers are fitted twice: freely for each group, then as codes around the
// free fit, by the error that the rounded codes give.
#pragma once

#include <stdint.h>

#include "kernels/cpu/quantize_fits.h"
#include "kernels/cpu/scaled_block.h"
#include "kernels/pack_blocks.h"

namespace cria::CRIA_ISA {

/// Levels of a group as rounded by `scale` and `base`, plus `offset`.
template <class Levels>
CRIA_INLINE void round_levels(const float* x, int n, float scale, float base, int offset, int8_t* q) {
  const float inverse = inverse_or_zero(scale);
  for (int i = 0; i < n; i += 16) {
    const F32x16 level = Levels::nearest((load(x + i) - base) * inverse);
    store_i8(q + i, level + static_cast<float>(offset), 16);
  }
}

template <class Block>
CRIA_INLINE void pack(const int8_t* q, Block& b) {
  pack_levels([=](int e) { return static_cast<int>(q[e]); }, b);
}

// ---- blocks of 32 ----

template <int Steps, class Block>
CRIA_INLINE void quantize_signed_32(const ScaledBlock& s, Block& b) {
  using Levels = LinearLevels<-Steps, Steps - 1>;
  float d = best_scale<Levels>({s.x, s.w, 32}, -0.75f * Steps, -1.15f * Steps);
  b.d = store_scale(s, d);
  int8_t q[32];
  round_levels<Levels>(s.x, 32, d, 0.0f, Steps, q);
  pack(q, b);
}
template <int Max, class Block>
CRIA_INLINE void quantize_affine_32(const ScaledBlock& s, Block& b) {
  AffineFit fit = best_affine<Max, false>({s.x, s.w, 32}, 0.3f / Max);
  b.m = store_scale(s, fit.base);
  b.d = store_scale(s, fit.scale);
  int8_t q[32];
  round_levels<LinearLevels<0, Max>>(s.x, 32, fit.scale, fit.base, 0, q);
  pack(q, b);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ4_0& b) { quantize_signed_32<8>(s, b); }
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ5_0& b) { quantize_signed_32<16>(s, b); }
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ4_1& b) { quantize_affine_32<15>(s, b); }
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ5_1& b) { quantize_affine_32<31>(s, b); }

/// Index of each codebook value of a group.
CRIA_INLINE void round_iq4(const float* x, int n, float scale, int8_t* q) {
  round_levels<Iq4Levels>(x, n, scale, 0.0f, 0, q);
  for (int i = 0; i < n; i++) {
    int index = 0;
    while (kIq4Values[index] != q[i]) index++;
    q[i] = static_cast<int8_t>(index);
  }
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ4_NL& b) {
  float d = best_scale<Iq4Levels>({s.x, s.w, 32}, -0.75f * 127, -1.15f * 127);
  b.d = store_scale(s, d);
  int8_t q[32];
  round_iq4(s.x, 32, d, q);
  pack(q, b);
}

// ---- super-blocks with scales ----

struct SignedCodes {
  float d;
  uint16_t half;
  int code[16];
};
/// Integer scales in low..high of `groups` groups, times one half.
template <class Levels, int kGroups, int kLowCode, int kHighCode>
CRIA_INLINE SignedCodes fit_signed_codes(const ScaledBlock& s, float from, float to) {
  constexpr int kSize = kMaxBlock / kGroups;
  float scale[kGroups];
  for (int g = 0; g < kGroups; g++) {
    scale[g] = best_scale<Levels>({s.x + g * kSize, s.w + g * kSize, kSize}, from, to);
  }
  SignedCodes codes;
  codes.d = extreme_of(scale, kGroups) / kLowCode;
  codes.half = store_scale(s, codes.d);
  const float inverse = inverse_or_zero(codes.d);
  for (int g = 0; g < kGroups; g++) {
    const float exact = scale[g] * inverse;
    F32x16 code = clamp(round(set1(exact)) + (lane_numbers() - 8.0f), kLowCode, kHighCode);
    const F32x16 error = errors_of_scales<Levels>({s.x + g * kSize, s.w + g * kSize, kSize}, code * codes.d);
    codes.code[g] = static_cast<int>(lane(code, lane_of_max(0.0f - error)));
  }
  return codes;
}

CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ3_K& b) {
  using Levels = LinearLevels<-4, 3>;
  const SignedCodes codes = fit_signed_codes<Levels, 16, -32, 31>(s, -2.8f, -4.9f);
  b.d = codes.half;
  pack_q3_k_scales([&](int g) { return codes.code[g] + 32; }, b.scales);
  int8_t q[256];
  for (int g = 0; g < 16; g++)
    round_levels<Levels>(s.x + 16 * g, 16, codes.d * static_cast<float>(codes.code[g]), 0.0f, 4, q + 16 * g);
  pack(q, b);
}

CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ6_K& b) {
  using Levels = LinearLevels<-32, 31>;
  const SignedCodes codes = fit_signed_codes<Levels, 16, -128, 127>(s, -30.0f, -33.0f);
  b.d = codes.half;
  int8_t q[256];
  for (int g = 0; g < 16; g++) {
    b.scales[g] = static_cast<int8_t>(codes.code[g]);
    round_levels<Levels>(s.x + 16 * g, 16, codes.d * static_cast<float>(codes.code[g]), 0.0f, 32, q + 16 * g);
  }
  pack(q, b);
}

CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ4_XS& b) {
  const SignedCodes codes = fit_signed_codes<Iq4Levels, 8, -32, 31>(s, -0.75f * 127, -1.15f * 127);
  b.d = codes.half;
  pack_iq4_xs_scales([&](int g) { return codes.code[g] + 32; }, b);
  int8_t q[256];
  for (int g = 0; g < 8; g++)
    round_iq4(s.x + 32 * g, 32, codes.d * static_cast<float>(codes.code[g]), q + 32 * g);
  pack(q, b);
}

// ---- super-blocks with scales and mins ----

struct AffineCodes {
  float d, dmin;
  uint16_t half, half_min;
  int scale[16], min[16];
};
template <int kGroups, int Max, int kMaxCode>
CRIA_INLINE AffineCodes fit_affine_codes(const ScaledBlock& s, float cut) {
  constexpr int kSize = kMaxBlock / kGroups;
  float scale[kGroups], depth[kGroups];
  AffineCodes codes{};
  for (int g = 0; g < kGroups; g++) {
    const AffineFit fit = best_affine<Max, true>({s.x + g * kSize, s.w + g * kSize, kSize}, cut);
    scale[g] = fit.scale;
    depth[g] = 0.0f - fit.base;
    codes.d = codes.d < scale[g] ? scale[g] : codes.d;
    codes.dmin = codes.dmin < depth[g] ? depth[g] : codes.dmin;
  }
  codes.d /= kMaxCode;
  codes.dmin /= kMaxCode;
  codes.half = store_scale(s, codes.d);
  codes.half_min = store_scale(s, codes.dmin);
  const float inverse = inverse_or_zero(codes.d), inverse_min = inverse_or_zero(codes.dmin);
  for (int g = 0; g < kGroups; g++) {
    const float low = static_cast<float>(truncated(scale[g] * inverse)) - 1.0f;
    const float low_min = static_cast<float>(truncated(depth[g] * inverse_min)) - 1.0f;
    const F32x16 code = clamp(load(kLaneRows) + low, 0.0f, kMaxCode);
    const F32x16 code_min = clamp(load(kLaneColumns) + low_min, 0.0f, kMaxCode);
    const F32x16 error = errors_of_affine<Max>({s.x + g * kSize, s.w + g * kSize, kSize}, code * codes.d,
                                               code_min * (0.0f - codes.dmin));
    const int best = lane_of_max(0.0f - error);
    codes.scale[g] = static_cast<int>(lane(code, best));
    codes.min[g] = static_cast<int>(lane(code_min, best));
  }
  return codes;
}
template <int kGroups, int Max>
CRIA_INLINE void round_codes(const ScaledBlock& s, const AffineCodes& codes, int8_t* q) {
  constexpr int kSize = kMaxBlock / kGroups;
  for (int g = 0; g < kGroups; g++)
    round_levels<LinearLevels<0, Max>>(s.x + g * kSize, kSize, codes.d * static_cast<float>(codes.scale[g]),
                                       0.0f - codes.dmin * static_cast<float>(codes.min[g]), 0,
                                       q + g * kSize);
}

CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ2_K& b) {
  const AffineCodes codes = fit_affine_codes<16, 3, 15>(s, 0.08f);
  b.d = codes.half;
  b.dmin = codes.half_min;
  for (int g = 0; g < 16; g++) b.scales[g] = static_cast<uint8_t>(codes.scale[g] | codes.min[g] << 4);
  int8_t q[256];
  round_codes<16, 3>(s, codes, q);
  pack(q, b);
}
template <int Max, class Block>
CRIA_INLINE void quantize_k4(const ScaledBlock& s, Block& b) {
  const AffineCodes codes = fit_affine_codes<8, Max, 63>(s, 0.3f / Max);
  b.d = codes.half;
  b.dmin = codes.half_min;
  pack_k4_scales([&](int g) { return codes.scale[g]; }, [&](int g) { return codes.min[g]; }, b.scales);
  int8_t q[256];
  round_codes<8, Max>(s, codes, q);
  pack(q, b);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ4_K& b) { quantize_k4<15>(s, b); }
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockQ5_K& b) { quantize_k4<31>(s, b); }

// ---- rows ----

}  // namespace cria::CRIA_ISA
