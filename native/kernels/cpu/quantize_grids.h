// float32 -> the i-quants with grids: four or eight weights at a time become a point of a grid, with signs
// and a scale. The nearest point, by the weights of the errors, is found among all of them, sixteen at a
// time.
//
// As in llama.cpp's quantizers (ggml-quants.c), scales are fitted for each group first, and then as codes
// around the free fit.
#pragma once

#include "kernels/cpu/grid_points.h"
#include "kernels/cpu/quantize_fits.h"
#include "kernels/cpu/scaled_block.h"
#include "kernels/pack_grids.h"

namespace cria::CRIA_ISA {

// ---- the nearest point ----

/// The point nearest to t = x * inverse - shift. `distance`: the least sum of w (t - point)^2, without the
/// part that is the same for all points.
struct NearestPoint {
  int index;
  float distance;
};
template <int kElements, int kPoints>
CRIA_INLINE NearestPoint nearest_point(const GridPoints<kElements, kPoints>& grid, const float* x,
                                       const float* w, float inverse, float shift) {
  F32x16 best = set1(3e38f), best_chunk = set1(0.0f);
  for (int i = 0; i < kPoints; i += 16) {
    F32x16 distance = set1(0.0f);
    CRIA_UNROLL(8)
    for (int j = 0; j < kElements; j++) {
      // w g^2 - 2 w t g = g (w g - 2 w t)
      const F32x16 g = load(grid.points[j] + i);
      const float twice = -2.0f * w[j] * (x[j] * inverse - shift);
      distance = fma(g, fma(g, set1(w[j]), set1(twice)), distance);
    }
    const F32x16 gain = best - distance;
    best_chunk = best_chunk + zero_below(gain, 0.0f, set1(static_cast<float>(i)) - best_chunk);
    best = min(best, distance);
  }
  float distances[16], chunks[16];
  store(distances, best);
  store(chunks, best_chunk);
  int lane_of_best = 0;
  for (int i = 1; i < 16; i++)
    if (distances[i] < distances[lane_of_best]) lane_of_best = i;
  return {static_cast<int>(chunks[lane_of_best]) + lane_of_best, distances[lane_of_best]};
}

/// The points of a group nearest to its values by some scale.
struct GroupPoints {
  int index[8];
  float xl, ll;  // sums of w x level and w level^2
  /// The scale that these points ask for.
  CRIA_METHOD float scale() const { return xl > 0.0f && ll > 0.0f ? xl / ll : 0.0f; }
  /// By how much they lower the error when multiplied with `scale`.
  CRIA_METHOD float gain(float scale) const { return 2.0f * scale * xl - scale * scale * ll; }
};

// ---- grids of magnitudes: IQ2 and IQ3 ----

/// q in the levels of IQ2, IQ3_XXS and IQ3_S, for a first guess that ignores the grid.
struct Iq2Levels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    return 8.0f + zero_below(t, 16.5f, set1(17.0f)) + zero_below(t, 34.0f, set1(18.0f));
  }
};
struct Iq3XxsLevels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    const F32x16 level = clamp(round((t - 4.0f) * 0.125f), 0.0f, 6.0f) * 8.0f + 4.0f;
    return level + zero_below(t, 57.0f, set1(10.0f));
  }
};
struct Iq3SLevels {
  static CRIA_METHOD F32x16 nearest(F32x16 t) {
    return clamp(round((t - 1.0f) * 0.5f), 0.0f, 7.0f) * 2.0f + 1.0f;
  }
};

/// A group's magnitudes and signs. kEven: of each eight signs an even number are set, so that where they are
/// not, the element that matters least gets the other sign; its magnitude is negative then.
template <int kSize>
struct SignedGroup {
  float x[kSize], w[kSize];
  uint8_t signs[kSize / 8];
};
template <int kSize, bool kEven>
CRIA_INLINE SignedGroup<kSize> split_signs(const float* x, const float* w) {
  SignedGroup<kSize> g;
  for (int k = 0; k < kSize / 8; k++) {
    int signs = 0, count = 0, least = 0;
    float least_weight = 3e38f;
    for (int j = 0; j < 8; j++) {
      const int e = 8 * k + j;
      const int negative = x[e] < 0.0f ? 1 : 0;
      g.x[e] = __builtin_fabsf(x[e]);
      g.w[e] = w[e];
      signs |= negative << j;
      count += negative;
      const float weight = w[e] * x[e] * x[e];
      if (weight < least_weight) {
        least_weight = weight;
        least = j;
      }
    }
    if (kEven && count % 2 != 0) {
      signs ^= 1 << least;
      g.x[8 * k + least] = 0.0f - g.x[8 * k + least];
    }
    g.signs[k] = static_cast<uint8_t>(signs);
  }
  return g;
}

template <int kSize, int kElements, int kPoints>
CRIA_INLINE GroupPoints fit_points(const GridPoints<kElements, kPoints>& grid, const SignedGroup<kSize>& g,
                                   float scale) {
  GroupPoints fit{};
  const float inverse = inverse_or_zero(scale);
  for (int k = 0; k < kSize / kElements; k++) {
    const float* x = g.x + kElements * k;
    const float* w = g.w + kElements * k;
    fit.index[k] = nearest_point(grid, x, w, inverse, 0.0f).index;
    for (int j = 0; j < kElements; j++) {
      const float level = grid.points[j][fit.index[k]];
      fit.xl += w[j] * x[j] * level;
      fit.ll += w[j] * level * level;
    }
  }
  return fit;
}

/// The free scale of a group. `high`: the largest level.
template <class Levels, int kSize, int kElements, int kPoints>
CRIA_INLINE float best_grid_scale(const GridPoints<kElements, kPoints>& grid, const SignedGroup<kSize>& g,
                                  float high) {
  const float guess = best_scale<Levels>({g.x, g.w, kSize}, 0.8f * high, 1.4f * high);
  if (!(guess > 0.0f)) return __builtin_fabsf(extreme_of(g.x, kSize)) / high;
  return fit_points(grid, g, guess).scale();
}

/// A block of a format whose grid has magnitudes.
struct GridBlock {
  uint16_t half;
  int code[16];  // of each group: its scale is (2 code + 1) times the block's
  int index[64];
  uint8_t signs[32];
};
/// `unit`: the block's scale is the stored half times this.
template <class Levels, int kSize, bool kEven, int kElements, int kPoints>
CRIA_INLINE GridBlock fit_grid(const ScaledBlock& s, const GridPoints<kElements, kPoints>& grid, float unit,
                               float high) {
  constexpr int kGroups = kMaxBlock / kSize, kVectors = kSize / kElements, kMaxCode = 15;
  SignedGroup<kSize> groups[kGroups];
  float scale[kGroups], largest = 0.0f;
  GridBlock out;
  for (int g = 0; g < kGroups; g++) {
    groups[g] = split_signs<kSize, kEven>(s.x + g * kSize, s.w + g * kSize);
    for (int k = 0; k < kSize / 8; k++) out.signs[g * kSize / 8 + k] = groups[g].signs[k];
    scale[g] = best_grid_scale<Levels>(grid, groups[g], high);
    largest = largest < scale[g] ? scale[g] : largest;
  }
  float d = largest / (unit * (2 * kMaxCode + 1));
  out.half = store_scale(s, d);
  const float step = d * unit;
  for (int g = 0; g < kGroups; g++) {
    const int middle = truncated(0.5f * (scale[g] * inverse_or_zero(step) - 1.0f) + 0.5f);
    float best_gain = -3e38f;
    for (int code = middle - 1; code <= middle + 1; code++) {
      if (code < 0 || code > kMaxCode) continue;
      const float exact = step * static_cast<float>(2 * code + 1);
      const GroupPoints fit = fit_points(grid, groups[g], exact);
      if (!(fit.gain(exact) > best_gain)) continue;
      best_gain = fit.gain(exact);
      out.code[g] = code;
      for (int k = 0; k < kVectors; k++) out.index[g * kVectors + k] = fit.index[k];
    }
  }
  return out;
}

CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ2_XXS& b) {
  const GridBlock fit = fit_grid<Iq2Levels, 32, true>(s, kGridPoints.iq2_xxs, BlockIQ2_XXS::kUnit, 43.0f);
  b.d = fit.half;
  pack_points(b, fit.index, fit.signs, fit.code);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ2_XS& b) {
  const GridBlock fit = fit_grid<Iq2Levels, 16, true>(s, kGridPoints.iq2_xs, BlockIQ2_XS::kUnit, 43.0f);
  b.d = fit.half;
  pack_points(b, fit.index, fit.signs, fit.code);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ2_S& b) {
  const GridBlock fit = fit_grid<Iq2Levels, 16, false>(s, kGridPoints.iq2_s, BlockIQ2_S::kUnit, 43.0f);
  b.d = fit.half;
  pack_points(b, fit.index, fit.signs, fit.code);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ3_XXS& b) {
  const GridBlock fit = fit_grid<Iq3XxsLevels, 32, true>(s, kGridPoints.iq3_xxs, BlockIQ3_XXS::kUnit, 62.0f);
  b.d = fit.half;
  pack_points(b, fit.index, fit.signs, fit.code);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ3_S& b) {
  const GridBlock fit = fit_grid<Iq3SLevels, 32, false>(s, kGridPoints.iq3_s, BlockIQ3_S::kUnit, 15.0f);
  b.d = fit.half;
  pack_points(b, fit.index, fit.signs, fit.code);
}

// ---- IQ1: -1, 0 or 1, an eighth up or down ----

constexpr float kIq1Shift = 0.125f;

/// The nearest points of a group whose shifts are known.
template <int kSize>
CRIA_INLINE GroupPoints fit_iq1(const float* x, const float* w, float scale, const int* shift) {
  const float inverse = inverse_or_zero(scale);
  GroupPoints fit{};
  for (int k = 0; k < kSize / 8; k++) {
    const float by = shift[k] ? -kIq1Shift : kIq1Shift;
    fit.index[k] = nearest_point(kGridPoints.iq1, x + 8 * k, w + 8 * k, inverse, by).index;
    for (int j = 0; j < 8; j++) {
      const float level = kGridPoints.iq1.points[j][fit.index[k]] + by;
      fit.xl += w[8 * k + j] * x[8 * k + j] * level;
      fit.ll += w[8 * k + j] * level * level;
    }
  }
  return fit;
}

/// The shift of each vector by a first guess of the scale, without the grid. kShared: the same for all.
template <int kSize, bool kShared>
CRIA_INLINE void choose_shifts(const float* x, const float* w, float scale, int* shift) {
  const float inverse = inverse_or_zero(scale);
  float total = 0.0f;
  for (int k = 0; k < kSize / 8; k++) {
    float up_less_down = 0.0f;  // errors
    for (int j = 0; j < 8; j++) {
      const float t = x[8 * k + j] * inverse;
      const auto error = [=](float by) {
        const float rest = t - by - (t - by < -0.5f ? -1.0f : t - by > 0.5f ? 1.0f : 0.0f);
        return rest * rest;
      };
      up_less_down += w[8 * k + j] * (error(kIq1Shift) - error(-kIq1Shift));
    }
    total += up_less_down;
    shift[k] = up_less_down > 0.0f;
  }
  if (kShared)
    for (int k = 0; k < kSize / 8; k++) shift[k] = total > 0.0f;
}

struct Iq1Block {
  uint16_t half;
  int code[16];
  int index[32], shift[32];
};
template <int kSize, bool kShared>
CRIA_INLINE Iq1Block fit_iq1_block(const ScaledBlock& s) {
  constexpr int kGroups = kMaxBlock / kSize, kVectors = kSize / 8, kMaxCode = 7;
  float scale[kGroups], largest = 0.0f;
  Iq1Block out;
  for (int g = 0; g < kGroups; g++) {
    const float *x = s.x + g * kSize, *w = s.w + g * kSize;
    int* const shift = out.shift + g * kVectors;
    // Levels without a shift are symmetric: the sign of their scale does not matter.
    const float guess = __builtin_fabsf(best_scale<LinearLevels<-1, 1>>({x, w, kSize}, 0.5f, 2.0f));
    choose_shifts<kSize, kShared>(x, w, guess, shift);
    scale[g] = fit_iq1<kSize>(x, w, guess, shift).scale();
    largest = largest < scale[g] ? scale[g] : largest;
  }
  float d = largest / (2 * kMaxCode + 1);
  out.half = store_scale(s, d);
  for (int g = 0; g < kGroups; g++) {
    const int middle = truncated(0.5f * (scale[g] * inverse_or_zero(d) - 1.0f) + 0.5f);
    float best_gain = -3e38f;
    for (int code = middle - 1; code <= middle + 1; code++) {
      if (code < 0 || code > kMaxCode) continue;
      const float exact = d * static_cast<float>(2 * code + 1);
      const GroupPoints fit =
          fit_iq1<kSize>(s.x + g * kSize, s.w + g * kSize, exact, out.shift + g * kVectors);
      if (!(fit.gain(exact) > best_gain)) continue;
      best_gain = fit.gain(exact);
      out.code[g] = code;
      for (int k = 0; k < kVectors; k++) out.index[g * kVectors + k] = fit.index[k];
    }
  }
  return out;
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ1_S& b) {
  const Iq1Block fit = fit_iq1_block<32, true>(s);
  b.d = fit.half;
  pack_points(b, fit.index, fit.shift, fit.code);
}
CRIA_INLINE void quantize_block(const ScaledBlock& s, BlockIQ1_M& b) {
  const Iq1Block fit = fit_iq1_block<16, false>(s);
  pack_points(b, fit.index, fit.shift, fit.code, fit.half);
}

}  // namespace cria::CRIA_ISA
