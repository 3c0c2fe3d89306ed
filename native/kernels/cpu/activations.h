// Activations -> the types that weights multiply with, bit for bit as quantize.h defines them, in arrays of
// their own (quants, scales and sums apart) so that a product reads each with plain loads. Compiled per
// level.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

/// The largest of n floats (a multiple of 16) and of their negatives; NaN where one is NaN or infinite.
struct Extremes {
  float high, low;
};
CRIA_INLINE Extremes extremes(const float* x, int n) {
  const F32x16 zero = set1(0.0f);
  F32x16 high = zero, low = zero, poison = zero;
  for (int i = 0; i < n; i += 16) {
    const F32x16 v = load(x + i);
    high = max(high, v);
    low = max(low, zero - v);
    poison = fma(v, zero, poison);
  }
  const float bad = reduce_add(poison);
  if (bad != bad) return {bad, bad};
  return {reduce_max(high), reduce_max(low)};
}

/// Prefetches n floats 2 KiB ahead, even of a neighbour. Other threads have just written them, and the
/// hardware prefetcher does not reach into their caches.
CRIA_INLINE void prefetch_ahead(const float* x, int n) {
  constexpr int kAhead = 512;
  for (int i = 0; i < n; i += 16) prefetch(x + kAhead + i);
}

// Q8_0, and Q8_1 when weighted_sum is asked for. n is a multiple of 32.
static void quantize_q8_0(const float* x, int8_t* q, float* scale, float* weighted_sum, int16_t* sums16,
                          int64_t n) {
  for (int64_t first = 0; first < n / 32; first += 16) {
    // The scales of sixteen blocks together.
    const int64_t blocks = n / 32 - first < 16 ? n / 32 - first : 16;
    float amax[16] = {}, d[16], inverse[16], rounded[16];
    uint16_t half[16];
    for (int64_t b = 0; b < blocks; b++) {
      prefetch_ahead(x + 32 * b, 32);
      const Extremes of = extremes(x + 32 * b, 32);
      amax[b] = of.high > of.low ? of.high : of.low;
    }
    const F32x16 step = load(amax) / 127.0f;
    store(d, step);
    store(inverse, 1.0f / step);
    store_f16(half, step, 16);
    store(rounded, load_f16(half));
    for (int64_t b = 0; b < blocks; b++, x += 32, q += 32, sums16 += 2) {
      const bool bad = amax[b] != amax[b];
      const bool usable = !bad && inverse[b] <= 3.402823466e38f;
      for (int i = 0; i < 32; i += 16) {
        // A block with a NaN or an infinity holds zeros: 0 * NaN would not be an integer.
        const F32x16 whole = round_half_away(usable ? load(x + i) * inverse[b] : set1(0.0f));
        store_i8(q + i, whole, 16);
        sums16[i / 16] = sums_of_16(q + i).sum;
      }
      scale[first + b] = bad ? float_from_bits(0x7fc00000u) : rounded[b];
      if (weighted_sum) {
        const float sum = d[b] * static_cast<float>(sums16[0] + sums16[1]);
        weighted_sum[first + b] = bad ? float_from_bits(0x7fc00000u) : f16_to_f32(f32_to_f16(sum));
      }
    }
  }
}

// n is a multiple of 256.
static void quantize_q8_k(const float* x, int8_t* q, float* scale, int16_t* sums16, int16_t* max_abs_sum16,
                          int64_t n) {
  for (int64_t b = 0; b < n / 256; b++, x += 256, q += 256, sums16 += 16) {
    prefetch_ahead(x, 256);
    const Extremes of = extremes(x, 256);
    const float amax = of.high > of.low ? of.high : of.low;
    float inverse = 0.0f;
    if (amax > 0.0f) {
      float extreme = of.high > of.low ? of.high : -of.low;
      if (of.high == of.low) {  // both signs: the first one's
        int i = 0;
        while (__builtin_fabsf(x[i]) != amax) i++;
        extreme = x[i];
      }
      inverse = -127.0f / extreme;
    }
    const bool usable = inverse != 0.0f && __builtin_fabsf(inverse) <= 3.402823466e38f;
    max_abs_sum16[b] = 0;
    for (int i = 0; i < 256; i += 16) {
      const F32x16 v = usable ? min(set1(127.0f), round(inverse * load(x + i))) : set1(0.0f);
      store_i8(q + i, v, 16);
      const SumsOf16 sums = sums_of_16(q + i);
      sums16[i / 16] = sums.sum;
      if (sums.magnitudes > max_abs_sum16[b]) max_abs_sum16[b] = sums.magnitudes;
    }
    scale[b] = amax != amax ? float_from_bits(0x7fc00000u) : usable ? 1.0f / inverse : 0.0f;
  }
}

static void round_f16(const float* x, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    uint16_t half[16];
    store_f16(half, load(x + i, left), 16);
    store(out + i, load_f16(half), left);
  }
}

static void round_bf16(const float* x, uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = f32_to_bf16(x[i]);
}

}  // namespace cria::CRIA_ISA
