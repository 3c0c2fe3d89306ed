// What the quantized products need to know of each weight format: how a block becomes bytes, and its float
// step.
//
// A format gives, for one row's block and the activations of kTokens tokens, exact integer sums as eight
// lanes that still have to be added up; the driver (matmul.h) does that for eight rows at once. Blocks:
// blocks.h.
#pragma once

#include "kernels/blocks.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

/// One token's activations at the block being multiplied.
struct ActBlock {
  const int8_t* q;
  const int16_t* sums16;
};

// Bytes of a row in the file.
CRIA_INLINE int64_t bytes_per_row(DType dtype, int64_t cols) {
  switch (dtype) {
    case DType::f32: return cols * 4;
    case DType::f16:
    case DType::bf16: return cols * 2;
    case DType::q4_0:
    case DType::iq4_nl: return cols / 32 * 18;
    case DType::q4_1: return cols / 32 * 20;
    case DType::q5_0: return cols / 32 * 22;
    case DType::q5_1: return cols / 32 * 24;
    case DType::q8_0: return cols / 32 * 34;
    case DType::q2_k: return cols / 256 * 84;
    case DType::q3_k: return cols / 256 * 110;
    case DType::q4_k: return cols / 256 * 144;
    case DType::q5_k: return cols / 256 * 176;
    case DType::q6_k: return cols / 256 * 210;
    case DType::iq4_xs: return cols / 256 * 136;
    default: return 0;
  }
}

// ---- blocks of 32: sum x (d of the row) x (d of the token), plus m x (the token's weighted sum) ----

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

// ---- super-blocks of 256: the scales multiply in as integers, so a block's sum is one exact int32 ----
//
// pair(block, p) gives the bytes of elements 64p .. 64p + 63, unsigned (kOffset still to be taken off) or
// signed. kGroups scales of 256 / kGroups elements each; mins, where a format has them, for the same groups.

// Shared by Q4_K and Q5_K: eight groups of 32, scale and min of six bits.
struct FormatK4 {
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0, kGroups = 8;
  template <class Block>
  CRIA_INLINE void scales(const Block& b, int16_t scale[8], int16_t min[8]) {
    uint8_t s[8], m[8];
    k4_scales(b.scales, s, m);
    for (int g = 0; g < 8; g++) scale[g] = s[g];
    for (int g = 0; g < 8; g++) min[g] = m[g];
  }
};

struct FormatQ4_K : FormatK4 {
  using Block = BlockQ4_K;
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    const I8x32 bytes = load_bytes(b.qs + 32 * p);
    first = and_bytes(bytes, set1_bytes(15));
    second = shift_right(bytes, 4, 15);
  }
};

struct FormatQ5_K : FormatK4 {
  using Block = BlockQ5_K;
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    const I8x32 bytes = load_bytes(b.qs + 32 * p), high = shift_right(load_bytes(b.qh), 2 * p, 3);
    first = or_bytes(and_bytes(bytes, set1_bytes(15)), shift_left(high, 4, 16));
    second = or_bytes(shift_right(bytes, 4, 15), shift_left(high, 3, 16));
  }
};

struct FormatQ6_K {
  using Block = BlockQ6_K;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 32, kGroups = 16;
  CRIA_INLINE void scales(const Block& b, int16_t scale[16], int16_t*) {
    for (int g = 0; g < 16; g++) scale[g] = b.scales[g];
  }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    const uint8_t* low = b.ql + 64 * (p / 2);
    const I8x32 low0 = load_bytes(low), low1 = load_bytes(low + 32), high = load_bytes(b.qh + 32 * (p / 2));
    if (p % 2 == 0) {
      first = or_bytes(and_bytes(low0, set1_bytes(15)), shift_left(high, 4, 0x30));
      second = or_bytes(and_bytes(low1, set1_bytes(15)), shift_left(high, 2, 0x30));
    } else {
      first = or_bytes(shift_right(low0, 4, 15), and_bytes(high, set1_bytes(0x30)));
      second = or_bytes(shift_right(low1, 4, 15), shift_right(high, 2, 0x30));
    }
  }
};

struct FormatQ2_K {
  using Block = BlockQ2_K;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0, kGroups = 16;
  CRIA_INLINE void scales(const Block& b, int16_t scale[16], int16_t min[16]) {
    for (int g = 0; g < 16; g++) scale[g] = b.scales[g] & 15;
    for (int g = 0; g < 16; g++) min[g] = b.scales[g] >> 4;
  }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    const I8x32 bytes = load_bytes(b.qs + 32 * (p / 2));
    first = shift_right(bytes, 4 * (p % 2), 3);
    second = shift_right(bytes, 4 * (p % 2) + 2, 3);
  }
};

struct FormatQ3_K {
  using Block = BlockQ3_K;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 4, kGroups = 16;
  CRIA_INLINE void scales(const Block& b, int16_t scale[16], int16_t*) {
    int8_t s[16];
    q3_k_scales(b.scales, s);
    for (int g = 0; g < 16; g++) scale[g] = s[g];
  }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    const I8x32 bytes = load_bytes(b.qs + 32 * (p / 2)), high = shift_right(load_bytes(b.hmask), 2 * p, 3);
    first = or_bytes(shift_right(bytes, 4 * (p % 2), 3), shift_left(high, 2, 4));
    second = or_bytes(shift_right(bytes, 4 * (p % 2) + 2, 3), shift_left(high, 1, 4));
  }
};

struct FormatIQ4_XS {
  using Block = BlockIQ4_XS;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0, kGroups = 8;
  CRIA_INLINE void scales(const Block& b, int16_t scale[8], int16_t*) {
    for (int g = 0; g < 8; g++) scale[g] = static_cast<int16_t>(iq4_xs_scale(b, g));
  }
  CRIA_INLINE void pair(const Block& b, int p, I8x32& first, I8x32& second) {
    first = lookup(kIq4Values, load_nibbles(b.qs + 32 * p));
    second = lookup(kIq4Values, load_nibbles(b.qs + 32 * p + 16));
  }
};

template <class Block>
CRIA_INLINE uint16_t min_scale(const Block& b) {
  if constexpr (requires { b.dmin; })
    return b.dmin;
  else
    return 0;
}

// One row's block with kTokens tokens: the integer sum and (kHasMin) the sum of mins, as eight lanes each.
template <class F, int kTokens>
CRIA_INLINE void block256_sums(const typename F::Block& b, const ActBlock* x, I32x8* isum, I32x8* msum) {
  constexpr int kRepeat = 16 / F::kGroups;  // groups of 16 that share a scale
  int16_t scale[16], min[16];
  F::scales(b, scale, min);
  // What goes with the activations' sums: the mins, or the scales times the offset.
  if constexpr (F::kHasMin || F::kOffset != 0) {
    int16_t per16[16];
    for (int g = 0; g < 16; g++) per16[g] = F::kHasMin ? min[g / kRepeat] : scale[g / kRepeat];
    const I16x16 with_sums = load_i16(per16);
    for (int t = 0; t < kTokens; t++) {
      const I32x8 m = dot(zero_i32x8(), with_sums, load_i16(x[t].sums16));
      if constexpr (F::kHasMin) msum[t] = m;
      isum[t] =
          F::kHasMin ? zero_i32x8() : subtract_shifted(zero_i32x8(), m, __builtin_ctz(F::kOffset | 256));
    }
  } else {
    for (int t = 0; t < kTokens; t++) isum[t] = zero_i32x8();
  }
#pragma GCC unroll 4
  for (int p = 0; p < 4; p++) {
    I8x32 bytes[2];
    F::pair(b, p, bytes[0], bytes[1]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const int g = 2 * p + half;
      const I16x16 s = F::kGroups == 8 ? set1_i16(scale[g]) : set2_i16(scale[2 * g], scale[2 * g + 1]);
      for (int t = 0; t < kTokens; t++) {
        const I8x32 q = load_bytes(x[t].q + 32 * g);
        const I16x16 products =
            F::kSigned ? pair_products_signed(bytes[half], q) : pair_products(bytes[half], q);
        isum[t] = dot(isum[t], products, s);
      }
    }
  }
}

}  // namespace cria::CRIA_ISA
