// float32 -> blocks of the weights' formats, in scalar code for CPU and CUDA alike: the plain fits of
// kernels/cpu/quantize.h. For blocks of finite values. Scales saturate at binary16's largest value.
//
// `Machine` supplies the conversions that the two spell differently, to_f16() rounding to nearest even:
//   static uint16_t to_f16(float);  static float from_f16(uint16_t);
// One call fills one block. A format with groups first fits each of them into the caller's GroupFits: on a
// device, such arrays with computed indices must not be a thread's own, or they go to local memory.
#pragma once

#include <math.h>
#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/pack_blocks.h"

namespace cria {

struct GroupFits {
  float inverse[16];  // of each group's step
  float offset[16];   // with mins: what is added before
  int scales[16];     // signed where there are no mins
  int mins[16];
};

template <class Machine>
struct BlockQuantizer {
  static CRIA_BLOCK_CODE float clamp(float x, float low, float high) {
    return x < low ? low : high < x ? high : x;
  }
  static CRIA_BLOCK_CODE float greater(float a, float b) { return a < b ? b : a; }
  static CRIA_BLOCK_CODE float lesser(float a, float b) { return b < a ? b : a; }

  /// The nearest half, saturated: a weight's scale never becomes infinite.
  static CRIA_BLOCK_CODE uint16_t scale_near(float value) {
    return Machine::to_f16(clamp(value, -65504.0f, 65504.0f));
  }
  /// The smallest half that is not below `value` >= 0, saturated: codes computed from it never exceed their
  /// range.
  static CRIA_BLOCK_CODE uint16_t scale_above(float value) {
    const uint16_t half = scale_near(value);
    return Machine::from_f16(half) < value && half < 0x7bff ? static_cast<uint16_t>(half + 1) : half;
  }
  static CRIA_BLOCK_CODE float inverse_of(float value) { return value == 0.0f ? 0.0f : 1.0f / value; }

  /// round(value) + offset, kept in 0..max. `value` is not NaN.
  static CRIA_BLOCK_CODE int level(float value, int offset, int max) {
    return static_cast<int>(clamp(roundf(value) + static_cast<float>(offset), 0.0f, static_cast<float>(max)));
  }

  /// Of largest magnitude, the first among equals.
  static CRIA_BLOCK_CODE float extreme_of(const float* x, int n) {
    float extreme = x[0];
    for (int i = 1; i < n; i++)
      if (fabsf(extreme) < fabsf(x[i])) extreme = x[i];
    return extreme;
  }
  static CRIA_BLOCK_CODE float min_of(const float* x, int n) {
    float min = x[0];
    for (int i = 1; i < n; i++) min = lesser(min, x[i]);
    return min;
  }
  static CRIA_BLOCK_CODE float max_of(const float* x, int n) {
    float max = x[0];
    for (int i = 1; i < n; i++) max = x[i] < max ? max : x[i];
    return max;
  }

  /// Index of the codebook's value nearest to `value`.
  static CRIA_BLOCK_CODE int nearest_iq4(float value) {
    int index = 0;
    while (index < 15 && value > 0.5f * static_cast<float>(iq4_value(index) + iq4_value(index + 1))) index++;
    return index;
  }

  // ---- blocks of 32 ----

  // Q4_0, Q5_0: the extreme value becomes level 0, which is one step further from zero than the highest
  // level.

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ4_0& b, GroupFits&) {
    b.d = scale_near(extreme_of(x, 32) / -8.0f);
    const float inverse = inverse_of(Machine::from_f16(b.d));
    pack_levels([&](int j) { return level(x[j] * inverse, 8, 15); }, b);
  }
  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ5_0& b, GroupFits&) {
    b.d = scale_near(extreme_of(x, 32) / -16.0f);
    const float inverse = inverse_of(Machine::from_f16(b.d));
    const auto q = [&](int j) { return level(x[j] * inverse, 16, 31); };
    pack_levels(q, b);
  }

  /// Q4_1, Q5_1: levels from the minimum to the maximum.
  struct Affine {
    uint16_t d, m;
    float base, inverse;
    CRIA_BLOCK_CODE Affine(const float* x, int max_level) {
      m = scale_near(min_of(x, 32));
      base = Machine::from_f16(m);
      d = scale_near(greater(0.0f, max_of(x, 32) - base) / static_cast<float>(max_level));
      inverse = inverse_of(Machine::from_f16(d));
    }
  };
  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ4_1& b, GroupFits&) {
    const Affine fit(x, 15);
    b.d = fit.d;
    b.m = fit.m;
    pack_levels([&](int j) { return level((x[j] - fit.base) * fit.inverse, 0, 15); }, b);
  }
  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ5_1& b, GroupFits&) {
    const Affine fit(x, 31);
    b.d = fit.d;
    b.m = fit.m;
    const auto q = [&](int j) { return level((x[j] - fit.base) * fit.inverse, 0, 31); };
    pack_levels(q, b);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockIQ4_NL& b, GroupFits&) {
    b.d = scale_near(extreme_of(x, 32) / -127.0f);
    const float inverse = inverse_of(Machine::from_f16(b.d));
    pack_levels([&](int j) { return nearest_iq4(x[j] * inverse); }, b);
  }

  // ---- super-blocks ----

  /// Without mins: signed integer scales of the groups, magnitudes up to `max_code`, times one half, which is
  /// returned. The codes are rounded up, so that each group's extreme value stays within its levels.
  static CRIA_BLOCK_CODE uint16_t fit_signed(const float* x, int groups, float extreme_level, int max_code,
                                             GroupFits& fit) {
    const int size = kSuperBlockSize / groups;
    float largest = 0;
    for (int g = 0; g < groups; g++) {
      fit.inverse[g] = extreme_of(x + g * size, size) / extreme_level;  // the step itself, so far
      largest = greater(largest, fabsf(fit.inverse[g]));
    }
    const uint16_t d = scale_above(largest / static_cast<float>(max_code));
    const float unit = Machine::from_f16(d), inverse_unit = inverse_of(unit);
    for (int g = 0; g < groups; g++) {
      const float step = fit.inverse[g];
      const float code = lesser(ceilf(fabsf(step) * inverse_unit), static_cast<float>(max_code));
      fit.scales[g] = static_cast<int>(step < 0 ? -code : code);
      fit.inverse[g] = inverse_of(unit * static_cast<float>(fit.scales[g]));
    }
    return d;
  }

  struct Units {
    uint16_t d, dmin;
  };
  /// With mins: both the scales and the mins of the groups are unsigned codes, rounded up as above.
  static CRIA_BLOCK_CODE Units fit_affine(const float* x, int groups, int max_level, int max_code,
                                          GroupFits& fit) {
    const int size = kSuperBlockSize / groups;
    const float max = static_cast<float>(max_code);
    float deepest = 0;
    for (int g = 0; g < groups; g++) {
      fit.offset[g] = greater(0.0f, -min_of(x + g * size, size));  // the depth, so far
      deepest = greater(deepest, fit.offset[g]);
    }
    Units units;
    units.dmin = scale_above(deepest / max);
    const float unit_min = Machine::from_f16(units.dmin), inverse_min = inverse_of(unit_min);
    float widest = 0;
    for (int g = 0; g < groups; g++) {
      fit.mins[g] = static_cast<int>(lesser(ceilf(fit.offset[g] * inverse_min), max));
      fit.offset[g] = unit_min * static_cast<float>(fit.mins[g]);
      const float top = max_of(x + g * size, size) + fit.offset[g];
      fit.inverse[g] = greater(0.0f, top) / static_cast<float>(max_level);  // the step, so far
      widest = greater(widest, fit.inverse[g]);
    }
    units.d = scale_above(widest / max);
    const float unit = Machine::from_f16(units.d), inverse_unit = inverse_of(unit);
    for (int g = 0; g < groups; g++) {
      fit.scales[g] = static_cast<int>(lesser(ceilf(fit.inverse[g] * inverse_unit), max));
      fit.inverse[g] = inverse_of(unit * static_cast<float>(fit.scales[g]));
    }
    return units;
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ2_K& b, GroupFits& fit) {
    const Units units = fit_affine(x, 16, 3, 15, fit);
    b.d = units.d;
    b.dmin = units.dmin;
    for (int g = 0; g < 16; g++) b.scales[g] = static_cast<uint8_t>(fit.scales[g] | fit.mins[g] << 4);
    pack_levels([&](int e) { return level((x[e] + fit.offset[e / 16]) * fit.inverse[e / 16], 0, 3); }, b);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ3_K& b, GroupFits& fit) {
    b.d = fit_signed(x, 16, -4.0f, 31, fit);
    pack_q3_k_scales([&](int g) { return fit.scales[g] + 32; }, b.scales);
    pack_levels([&](int e) { return level(x[e] * fit.inverse[e / 16], 4, 7); }, b);
  }

  static CRIA_BLOCK_CODE void pack_scales(const GroupFits& fit, uint8_t* packed) {
    pack_k4_scales([&](int g) { return fit.scales[g]; }, [&](int g) { return fit.mins[g]; }, packed);
  }
  static CRIA_BLOCK_CODE int affine_level(const float* x, const GroupFits& fit, int e, int max) {
    return level((x[e] + fit.offset[e / 32]) * fit.inverse[e / 32], 0, max);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ4_K& b, GroupFits& fit) {
    const Units units = fit_affine(x, 8, 15, 63, fit);
    b.d = units.d;
    b.dmin = units.dmin;
    pack_scales(fit, b.scales);
    pack_levels([&](int e) { return affine_level(x, fit, e, 15); }, b);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ5_K& b, GroupFits& fit) {
    const Units units = fit_affine(x, 8, 31, 63, fit);
    b.d = units.d;
    b.dmin = units.dmin;
    pack_scales(fit, b.scales);
    pack_levels([&](int e) { return affine_level(x, fit, e, 31); }, b);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockQ6_K& b, GroupFits& fit) {
    b.d = fit_signed(x, 16, -32.0f, 127, fit);
    for (int g = 0; g < 16; g++) b.scales[g] = static_cast<int8_t>(fit.scales[g]);
    pack_levels([&](int e) { return level(x[e] * fit.inverse[e / 16], 32, 63); }, b);
  }

  static CRIA_BLOCK_CODE void compress(const float* x, BlockIQ4_XS& b, GroupFits& fit) {
    b.d = fit_signed(x, 8, -127.0f, 31, fit);
    pack_iq4_xs_scales([&](int g) { return fit.scales[g] + 32; }, b);
    pack_levels([&](int e) { return nearest_iq4(x[e] * fit.inverse[e / 32]); }, b);
  }
};

}  // namespace cria
