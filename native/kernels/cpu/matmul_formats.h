// What the quantized products need to know of each weight format: how a block becomes bytes, and its float step.
//
// A format gives, for one row's block and the activations of kTokens tokens, exact integer sums as eight lanes that
// still have to be added up; the driver (matmul.h) does that for eight rows at once. Blocks: blocks.h.
#pragma once

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

/// One token's activations at the block being multiplied.
struct ActBlock {
  const int8_t* q;
  const int16_t* sums16;
};

// ---- blocks of 32: integer sum x (d of the row) x (d of the token), plus m x (the token's weighted sum) ----

// kSigned: bytes() gives signed bytes. Else unsigned, from which kOffset has to be taken off.
struct FormatQ8_0 {
  using Block = BlockQ8_0;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE I8x32 bytes(const Block& b) { return load_bytes(b.qs); }
};
struct FormatQ4_0 {
  using Block = BlockQ4_0;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 8;
  CRIA_INLINE I8x32 bytes(const Block& b) { return load_nibbles(b.qs); }
};
struct FormatQ4_1 {
  using Block = BlockQ4_1;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE I8x32 bytes(const Block& b) { return load_nibbles(b.qs); }
};
struct FormatQ5_0 {
  using Block = BlockQ5_0;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 16;
  CRIA_INLINE I8x32 bytes(const Block& b) {
    return or_bytes(load_nibbles(b.qs), spread_bits(q5_high_bits(b.qh), 16));
  }
};
struct FormatQ5_1 {
  using Block = BlockQ5_1;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE I8x32 bytes(const Block& b) {
    return or_bytes(load_nibbles(b.qs), spread_bits(q5_high_bits(b.qh), 16));
  }
};
struct FormatIQ4_NL {
  using Block = BlockIQ4_NL;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE I8x32 bytes(const Block& b) { return lookup(kIq4Values, load_nibbles(b.qs)); }
};

// ---- super-blocks of 256: the scales multiply in as integers, so the sum over the block is one exact int32 ----

CRIA_INLINE I16x16 widen_u8(const uint8_t* bytes16) {
  int16_t wide[16];
  for (int i = 0; i < 16; i++) wide[i] = bytes16[i];
  return load_i16(wide);
}

// Every format: sums<kTokens>(block, x, isum, msum) sets isum[t] (and msum[t] when kHasMin).

// Shared by Q4_K and Q5_K: eight groups of 32, unsigned, scale and min of six bits.
template <class Bytes, int kTokens, class Block>
CRIA_INLINE void sums_k4(const Block& b, const ActBlock* x, I32x8* isum, I32x8* msum) {
  uint8_t scales[8], mins[8], mins16[16];
  k4_scales(b.scales, scales, mins);
  for (int g = 0; g < 16; g++) mins16[g] = mins[g / 2];
  const I16x16 m = widen_u8(mins16);
  for (int t = 0; t < kTokens; t++) {
    isum[t] = zero_i32x8();
    msum[t] = dot(zero_i32x8(), m, load_i16(x[t].sums16));
  }
#pragma GCC unroll 4
  for (int pair = 0; pair < 4; pair++) {
    I8x32 low, high;
    Bytes::pair(b, pair, low, high);
    const I16x16 s0 = set1_i16(scales[2 * pair]), s1 = set1_i16(scales[2 * pair + 1]);
    for (int t = 0; t < kTokens; t++) {
      const int8_t* q = x[t].q + 64 * pair;
      isum[t] = dot(isum[t], pair_products(low, load_bytes(q)), s0);
      isum[t] = dot(isum[t], pair_products(high, load_bytes(q + 32)), s1);
    }
  }
}

struct FormatQ4_K {
  using Block = BlockQ4_K;
  static constexpr bool kHasMin = true;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  CRIA_INLINE uint16_t dmin(const Block& b) { return b.dmin; }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& low, I8x32& high) {
    const I8x32 bytes = load_bytes(b.qs + 32 * p);
    low = and_bytes(bytes, set1_bytes(15));
    high = shift_right(bytes, 4, 15);
  }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8* msum) {
    sums_k4<FormatQ4_K, kTokens>(b, x, isum, msum);
  }
};

struct FormatQ5_K {
  using Block = BlockQ5_K;
  static constexpr bool kHasMin = true;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  CRIA_INLINE uint16_t dmin(const Block& b) { return b.dmin; }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& low, I8x32& high) {
    const I8x32 bytes = load_bytes(b.qs + 32 * p), qh = load_bytes(b.qh);
    const I8x32 one = set1_bytes(1);
    low = or_bytes(and_bytes(bytes, set1_bytes(15)), shift_left(and_bytes(shift_right(qh, 2 * p, 255), one), 4, 16));
    high = or_bytes(shift_right(bytes, 4, 15), shift_left(and_bytes(shift_right(qh, 2 * p + 1, 255), one), 4, 16));
  }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8* msum) {
    sums_k4<FormatQ5_K, kTokens>(b, x, isum, msum);
  }
};

struct FormatQ6_K {
  using Block = BlockQ6_K;
  static constexpr bool kHasMin = false;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8*) {
    int16_t wide[16];
    for (int g = 0; g < 16; g++) wide[g] = b.scales[g];
    const I16x16 scales = load_i16(wide);
    for (int t = 0; t < kTokens; t++)
      isum[t] = subtract_shifted(zero_i32x8(), dot(zero_i32x8(), scales, load_i16(x[t].sums16)), 5);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
      const I8x32 low0 = load_bytes(b.ql + 64 * h), low1 = load_bytes(b.ql + 64 * h + 32);
      const I8x32 high = load_bytes(b.qh + 32 * h);
      const I8x32 bytes[4] = {or_bytes(and_bytes(low0, set1_bytes(15)), shift_left(high, 4, 0x30)),
                              or_bytes(and_bytes(low1, set1_bytes(15)), shift_left(high, 2, 0x30)),
                              or_bytes(shift_right(low0, 4, 15), and_bytes(high, set1_bytes(0x30))),
                              or_bytes(shift_right(low1, 4, 15), shift_right(high, 2, 0x30))};
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        const I16x16 scale = set2_i16(b.scales[8 * h + 2 * k], b.scales[8 * h + 2 * k + 1]);
        for (int t = 0; t < kTokens; t++)
          isum[t] = dot(isum[t], pair_products(bytes[k], load_bytes(x[t].q + 128 * h + 32 * k)), scale);
      }
    }
  }
};

struct FormatQ2_K {
  using Block = BlockQ2_K;
  static constexpr bool kHasMin = true;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  CRIA_INLINE uint16_t dmin(const Block& b) { return b.dmin; }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8* msum) {
    uint8_t mins[16];
    for (int g = 0; g < 16; g++) mins[g] = b.scales[g] >> 4;
    const I16x16 m = widen_u8(mins);
    for (int t = 0; t < kTokens; t++) {
      isum[t] = zero_i32x8();
      msum[t] = dot(zero_i32x8(), m, load_i16(x[t].sums16));
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
      const I8x32 bytes = shift_right(load_bytes(b.qs + 32 * (g / 4)), 2 * (g % 4), 3);
      const I16x16 scale = set2_i16(b.scales[2 * g] & 15, b.scales[2 * g + 1] & 15);
      for (int t = 0; t < kTokens; t++)
        isum[t] = dot(isum[t], pair_products(bytes, load_bytes(x[t].q + 32 * g)), scale);
    }
  }
};

struct FormatQ3_K {
  using Block = BlockQ3_K;
  static constexpr bool kHasMin = false;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8*) {
    int8_t scales[16];
    q3_k_scales(b.scales, scales);
    int16_t wide[16];
    for (int g = 0; g < 16; g++) wide[g] = scales[g];
    const I16x16 all = load_i16(wide);
    for (int t = 0; t < kTokens; t++)
      isum[t] = subtract_shifted(zero_i32x8(), dot(zero_i32x8(), all, load_i16(x[t].sums16)), 2);
    const I8x32 mask = load_bytes(b.hmask);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
      const I8x32 low = shift_right(load_bytes(b.qs + 32 * (g / 4)), 2 * (g % 4), 3);
      const I8x32 bytes = or_bytes(low, shift_left(and_bytes(shift_right(mask, g, 255), set1_bytes(1)), 2, 4));
      const I16x16 scale = set2_i16(scales[2 * g], scales[2 * g + 1]);
      for (int t = 0; t < kTokens; t++)
        isum[t] = dot(isum[t], pair_products(bytes, load_bytes(x[t].q + 32 * g)), scale);
    }
  }
};

struct FormatIQ4_XS {
  using Block = BlockIQ4_XS;
  static constexpr bool kHasMin = false;
  CRIA_INLINE uint16_t d(const Block& b) { return b.d; }
  template <int kTokens>
  CRIA_INLINE void sums(const Block& b, const ActBlock* x, I32x8* isum, I32x8*) {
    for (int t = 0; t < kTokens; t++) isum[t] = zero_i32x8();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
      const I8x32 bytes = lookup(kIq4Values, load_nibbles(b.qs + 16 * g));
      const I16x16 scale = set1_i16(static_cast<int16_t>(iq4_xs_scale(b, g)));
      for (int t = 0; t < kTokens; t++)
        isum[t] = dot(isum[t], pair_products_signed(bytes, load_bytes(x[t].q + 32 * g)), scale);
    }
  }
};

}  // namespace cria::CRIA_ISA
