// The search for the scales of a group of weights: least sum of w (x - value)^2, where `w` says what an error
// of each weight costs. Sixteen candidates are tried at once, one a lane, so that no sum depends on the width
// of a register: every level finds the same scales.
//
// The idea is that of llama.cpp's quantizers (ggml-quants.c): round by a trial scale, then solve the
// least-squares problem that the rounded levels pose. Here the trials of a group are lanes, and a second
// round looks closer around the best of the first.
#pragma once

#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

/// n values, with the weight of each one's squared error.
struct FitGroup {
  const float* x;
  const float* w;
  int n;
};

constexpr int kCandidates = 16;

/// 0, 1, ... 15.
alignas(64) static constexpr float kLaneNumbers[kCandidates] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                                8, 9, 10, 11, 12, 13, 14, 15};
CRIA_INLINE F32x16 lane_numbers() { return load(kLaneNumbers); }
/// 0, 0, 0, 0, 1, ... 3 and 0, 1, 2, 3, 0, ... 3: the lanes as a square.
alignas(64) static constexpr float kLaneRows[kCandidates] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
alignas(64) static constexpr float kLaneColumns[kCandidates] = {0, 1, 2, 3, 0, 1, 2, 3,
                                                                0, 1, 2, 3, 0, 1, 2, 3};

CRIA_INLINE F32x16 clamp(F32x16 a, float low, float high) { return min(max(a, set1(low)), set1(high)); }

CRIA_INLINE int lane_of_max(F32x16 a) {
  float v[kCandidates];
  store(v, a);
  int best = 0;
  for (int i = 1; i < kCandidates; i++)
    if (v[best] < v[i]) best = i;
  return best;
}
CRIA_INLINE float lane(F32x16 a, int i) {
  float v[kCandidates];
  store(v, a);
  return v[i];
}

/// Of largest magnitude, the first among equals.
CRIA_INLINE float extreme_of(const float* x, int n) {
  float extreme = x[0];
  for (int i = 1; i < n; i++)
    if (__builtin_fabsf(extreme) < __builtin_fabsf(x[i])) extreme = x[i];
  return extreme;
}

/// x without its fraction, for codes: far beyond any of them, where weights are near a float's limits, it is
/// cut off (and NaN is the lower limit).
CRIA_INLINE int truncated(float x) {
  constexpr float kFar = 1024.0f;
  return static_cast<int>(x > -kFar ? (x < kFar ? x : kFar) : -kFar);
}

constexpr float kTiny = 1e-30f;  // keeps divisors of lanes without a level from zero
CRIA_INLINE float inverse_or_zero(float value) { return value == 0.0f ? 0.0f : 1.0f / value; }

// ---- levels ----

/// q = round(t), kept in Low..High; value q.
template <int Low, int High>
struct LinearLevels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    return clamp(round(t), static_cast<float>(Low), static_cast<float>(High));
  }
};

/// The codebook of IQ4_NL and IQ4_XS.
struct Iq4Levels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    F32x16 value = set1(static_cast<float>(kIq4Values[0]));
    CRIA_UNROLL(16)
    for (int k = 0; k < 15; k++) {
      const float step = static_cast<float>(kIq4Values[k + 1] - kIq4Values[k]);
      const float middle = 0.5f * static_cast<float>(kIq4Values[k + 1] + kIq4Values[k]);
      value += zero_below(t, middle, set1(step));
    }
    return value;
  }
};

// ---- one scale: x ~ d * level ----

/// The scale that the levels rounded by each lane's `inverse` ask for, and by how much it lowers the error.
struct ScaleFit {
  F32x16 scale, gain;
};
template <class Levels>
CRIA_INLINE ScaleFit fit_scales(const FitGroup& g, F32x16 inverse) {
  F32x16 xl = set1(0.0f), ll = set1(0.0f);
  for (int i = 0; i < g.n; i++) {
    const F32x16 level = Levels::nearest(set1(g.x[i]) * inverse);
    const F32x16 wl = set1(g.w[i]) * level;
    xl = fma(set1(g.x[i]), wl, xl);
    ll = fma(level, wl, ll);
  }
  const F32x16 scale = xl / max(ll, set1(kTiny));
  return {scale, scale * xl};
}

/// The scale of a group. `from` .. `to`: the range in which the extreme value may fall, in steps.
template <class Levels>
CRIA_INLINE float best_scale(const FitGroup& g, float from, float to) {
  const float extreme = extreme_of(g.x, g.n);
  if (extreme == 0.0f) return 0.0f;
  const float per_lane = (to - from) / (kCandidates - 1) / extreme;
  const ScaleFit wide = fit_scales<Levels>(g, fma(lane_numbers(), set1(per_lane), set1(from / extreme)));
  const int at = lane_of_max(wide.gain);
  const float scale = lane(wide.scale, at);
  if (scale == 0.0f) return 0.0f;
  const float inverse = 1.0f / scale;
  const F32x16 near = (lane_numbers() - 7.5f) * (per_lane * (2.0f / kCandidates)) + set1(inverse);
  const ScaleFit close = fit_scales<Levels>(g, near);
  const int better = lane_of_max(close.gain);
  return lane(close.gain, better) > lane(wide.gain, at) ? lane(close.scale, better) : scale;
}

/// The error of each lane's scale, its levels rounded anew.
template <class Levels>
CRIA_INLINE F32x16 errors_of_scales(const FitGroup& g, F32x16 scale) {
  const F32x16 inverse = scale / max(scale * scale, set1(kTiny));
  F32x16 error = set1(0.0f);
  for (int i = 0; i < g.n; i++) {
    const F32x16 x = set1(g.x[i]);
    const F32x16 rest = x - Levels::nearest(x * inverse) * scale;
    error = fma(rest * g.w[i], rest, error);
  }
  return error;
}

// ---- a scale and a minimum: x ~ d * q + base ----

struct AffineFit {
  float scale, base;
};
struct AffineFits {
  F32x16 scale, base, gain;
};

/// Sums of a group that do not depend on levels.
struct GroupSums {
  float w, wx;
};
CRIA_INLINE GroupSums sums_of(const FitGroup& g) {
  GroupSums sums{0.0f, 0.0f};
  for (int i = 0; i < g.n; i++) {
    sums.w += g.w[i];
    sums.wx += g.w[i] * g.x[i];
  }
  return sums;
}

/// kBelow: the base is at most 0, as super-blocks store it.
template <int Max, bool kBelow>
CRIA_INLINE AffineFits fit_affine(const FitGroup& g, const GroupSums& sums, F32x16 inverse, F32x16 base) {
  F32x16 l = set1(0.0f), ll = set1(0.0f), xl = set1(0.0f);
  const F32x16 offset = set1(0.0f) - base * inverse;
  for (int i = 0; i < g.n; i++) {
    const F32x16 x = set1(g.x[i]);
    const F32x16 level = clamp(round(fma(x, inverse, offset)), 0.0f, static_cast<float>(Max));
    const F32x16 wl = set1(g.w[i]) * level;
    l = l + wl;
    ll = fma(level, wl, ll);
    xl = fma(x, wl, xl);
  }
  const F32x16 w = set1(sums.w), wx = set1(sums.wx);
  const F32x16 divisor = max(w * ll - l * l, set1(kTiny));
  AffineFits fits;
  fits.scale = (w * xl - wx * l) / divisor;
  fits.base = (ll * wx - l * xl) / divisor;
  fits.gain = fits.scale * xl + fits.base * wx;
  if constexpr (kBelow) {
    // Where the base would rise above zero, it stays there, and the scale alone is fitted.
    float scale[kCandidates], at[kCandidates], gain[kCandidates], sxl[kCandidates], sll[kCandidates];
    store(scale, fits.scale);
    store(at, fits.base);
    store(gain, fits.gain);
    store(sxl, xl);
    store(sll, ll);
    for (int i = 0; i < kCandidates; i++) {
      const float alone = sxl[i] / (sll[i] > kTiny ? sll[i] : kTiny);
      const bool above = at[i] > 0.0f;
      scale[i] = above ? alone : scale[i];
      gain[i] = above ? alone * sxl[i] : gain[i];
      at[i] = above ? 0.0f : at[i];
    }
    fits = {load(scale), load(at), load(gain)};
  }
  return fits;
}

/// The scale and the base of a group. A quarter of the lanes each cut off none to three `cut`s of the range
/// below, and as many above.
template <int Max, bool kBelow>
CRIA_INLINE AffineFit best_affine(const FitGroup& g, float cut) {
  float low = g.x[0], high = g.x[0];
  for (int i = 1; i < g.n; i++) {
    low = g.x[i] < low ? g.x[i] : low;
    high = high < g.x[i] ? g.x[i] : high;
  }
  if (kBelow && low > 0.0f) low = 0.0f;
  if (!(low < high)) return {0.0f, kBelow ? low : high};
  const GroupSums sums = sums_of(g);
  const float part = cut * (high - low);
  const F32x16 base = load(kLaneRows) * part + low;
  const F32x16 top = set1(high) - load(kLaneColumns) * part;
  const AffineFits wide =
      fit_affine<Max, kBelow>(g, sums, set1(static_cast<float>(Max)) / (top - base), base);
  const int at = lane_of_max(wide.gain);
  const AffineFit first{lane(wide.scale, at), lane(wide.base, at)};
  if (!(first.scale > 0.0f)) return first;
  // Closer: the ends of the range move by parts of a step.
  const F32x16 near_base = (load(kLaneRows) - 1.5f) * (0.25f * first.scale) + first.base;
  const F32x16 near_top = (load(kLaneColumns) - 1.5f) * (0.25f * first.scale) +
                          (first.base + static_cast<float>(Max) * first.scale);
  const AffineFits close =
      fit_affine<Max, kBelow>(g, sums, set1(static_cast<float>(Max)) / (near_top - near_base), near_base);
  const int better = lane_of_max(close.gain);
  if (lane(close.gain, better) > lane(wide.gain, at))
    return {lane(close.scale, better), lane(close.base, better)};
  return first;
}

/// The error of each lane's scale and base, its levels rounded anew.
template <int Max>
CRIA_INLINE F32x16 errors_of_affine(const FitGroup& g, F32x16 scale, F32x16 base) {
  const F32x16 inverse = scale / max(scale * scale, set1(kTiny));
  const F32x16 offset = set1(0.0f) - base * inverse;
  F32x16 error = set1(0.0f);
  for (int i = 0; i < g.n; i++) {
    const F32x16 x = set1(g.x[i]);
    const F32x16 level = clamp(round(fma(x, inverse, offset)), 0.0f, static_cast<float>(Max));
    const F32x16 rest = x - base - level * scale;
    error = fma(rest * g.w[i], rest, error);
  }
  return error;
}

}  // namespace cria::CRIA_ISA
