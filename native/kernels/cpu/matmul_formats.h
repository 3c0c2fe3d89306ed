// How the CPU's products read each weight format: the dwords of a repacked block (repack.h) as bytes, each
// dword's four to be multiplied with four activations, and the scales. Compiled per level.
//
// The offsets below count dwords where panel_dword() puts those of the file's blocks (blocks.h). Bytes are
// unsigned with kOffset still to be taken off, or (kSigned) signed.
#pragma once

#include "kernels/blocks.h"
#include "kernels/cpu/bit_layout.h"

namespace cria::CRIA_ISA {

/// A panel's block, and which sixteen of its 32 rows.
struct Rows16 {
  const uint8_t* p;
  int half;

  /// Dword `at` of each row, in a block whose dwords begin at byte kFrom.
  template <int kFrom = 0>
  CRIA_METHOD I32x16 dword(int64_t at) const {
    return load_i32(p + kFrom + 128 * at + 64 * half);
  }
  /// Dword g / 4 from `at` on, shifted so that byte g % 4 of each row is the lowest and the next one above
  /// it. An unaligned load: the bytes beyond the dword's are another row's.
  template <int kFrom = 0>
  CRIA_METHOD I32x16 bytes_from(int at, int64_t g) const {
    return load_i32_unaligned(p + kFrom + 128 * (at + g / 4) + 64 * half + g % 4);
  }
  /// The f16 values of the rows at byte `at`.
  CRIA_METHOD F32x16 halves(int at) const {
    return load_f16(reinterpret_cast<const uint16_t*>(p + at) + 16 * half);
  }
};

/// The low or the high nibbles.
CRIA_INLINE I32x16 nibbles(I32x16 v, int high) { return (high ? v >> 4 : v) & 0x0f0f0f0f; }

/// How the products read a format's panels: specialized below for every block struct that is repacked.
template <class B>
struct PanelFormat;
template <class B>
struct PanelFormatOf {
  using Block = B;
  static constexpr bool kHasMin = B::kHasMin;
  static constexpr int kGroups = B::kElements / B::kGroup;
};

// ---- blocks of 32: sum x (d of the row) x (d of the token), plus m x (the token's weighted sum) ----
//
// bytes(block, k): columns 4k .. 4k + 3.

template <>
struct PanelFormat<BlockQ8_0> : PanelFormatOf<BlockQ8_0> {
  static constexpr bool kSigned = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(Rows16 b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) { return b.dword<64>(k); }
};
template <>
struct PanelFormat<BlockQ4_0> : PanelFormatOf<BlockQ4_0> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 8;
  CRIA_INLINE F32x16 d(Rows16 b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) { return nibbles(b.dword<64>(k % 4), k / 4); }
};
template <>
struct PanelFormat<BlockIQ4_NL> : PanelFormatOf<BlockIQ4_NL> {
  static constexpr bool kSigned = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(Rows16 b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) { return lookup(kIq4Values, nibbles(b.dword<64>(k % 4), k / 4)); }
};
template <>
struct PanelFormat<BlockQ4_1> : PanelFormatOf<BlockQ4_1> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(Rows16 b) { return low_f16(b.dword(0)); }
  CRIA_INLINE F32x16 m(Rows16 b) { return low_f16(b.dword(0) >> 16); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) { return nibbles(b.dword(1 + k % 4), k / 4); }
};
template <>
struct PanelFormat<BlockQ5_0> : PanelFormatOf<BlockQ5_0> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 16;
  CRIA_INLINE F32x16 d(Rows16 b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) {
    return unpack5([&](int i) { return b.dword<64>(i); }, k);
  }
};
template <>
struct PanelFormat<BlockQ5_1> : PanelFormatOf<BlockQ5_1> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(Rows16 b) { return low_f16(b.dword(0)); }
  CRIA_INLINE F32x16 m(Rows16 b) { return low_f16(b.dword(0) >> 16); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int k) {
    return unpack5([&](int i) { return b.dword(1 + i); }, k);
  }
};

// ---- super-blocks of 256: the scales multiply in as integers, so a block's sum is one exact int32 ----
//
// The eight groups of 32 columns come in kOuter times kInner: group(outer, i) = kInner * outer + i, so that
// only kInner bodies need code. bytes(block, outer, i, k): columns 4k .. 4k + 3 of the group, times
// 2^shift(i), which the caller shifts out of the sums; low_bytes(), of formats with sixteen groups: the same
// without that factor.
//
// kMaxAbsWeight: the largest magnitude of a weight before its scale.
//
// A Header holds the scales of sixteen rows in registers: scale(g) of group g; min_pair(j) the mins of groups
// 2j and 2j + 1 as two words, to be multiplied with the activations' sums. Tiles have no registers to keep it
// in, and load a scale when they need it: scale_at(block, g). scale_bits(block, g) has the kScaleBits of
// group g in the lowest byte of each lane, those of group g + 1 in the next (scale_of, scales_of).

/// Byte g of each lane.
CRIA_INLINE I32x16 byte_of(I32x16 bytes, int g) { return (bytes >> (8 * g)) & 255; }
/// Bytes 2j and 2j + 1 of each lane as two words.
CRIA_INLINE I32x16 words_of(I32x16 bytes, int j) {
  const I32x16 two = j ? bytes >> 16 : bytes;
  return (two & 255) | ((two << 8) & 0x00ff0000);
}

/// The scale of group g, from scale_bits().
template <class F>
CRIA_INLINE I32x16 scale_of(I32x16 bits) {
  constexpr int kRest = 32 - F::kScaleBits;
  return F::kSignedScales ? shift_right_signed(bits << kRest, kRest) : bits & ((1 << F::kScaleBits) - 1);
}
/// Those of groups g and g + 1, as words.
template <class F>
CRIA_INLINE I32x16 scales_of(I32x16 bits) {
  constexpr int kRest = F::kSignedScales ? 16 - F::kScaleBits : 0, kMask = (1 << F::kScaleBits) - 1;
  const I32x16 words = blend_high_words(bits << kRest, bits << (kRest + 8));
  return F::kSignedScales ? shift_right_signed_words(words, kRest) : words & (kMask << 16 | kMask);
}

// Shared by Q4_K and Q5_K: eight groups of 32, scale and min of six bits.
template <class B>
struct PanelFormatK4 : PanelFormatOf<B> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0, kScaleBits = 6;
  static constexpr bool kSignedScales = false;
  CRIA_INLINE I32x16 scale_bits(Rows16 b, int64_t g) {
    return k4_scale_bits<false>([&](int w, int64_t k) { return b.bytes_from(1 + w, k); }, g);
  }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return scale_of<PanelFormatK4>(scale_bits(b, g)); }
  struct Header {
    I32x16 d_and_dmin;
    K4Scales<I32x16> six_bits;
    CRIA_METHOD void read(Rows16 b) {
      d_and_dmin = b.dword(0);
      six_bits = k4_scales(b.dword(1), b.dword(2), b.dword(3));
    }
    CRIA_METHOD I32x16 scale(int g) const { return byte_of(six_bits.scale[g / 4], g % 4); }
    CRIA_METHOD I32x16 min_pair(int j) const { return words_of(six_bits.min[j / 2], j % 2); }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_dmin); }
    CRIA_METHOD F32x16 minus_dmin() const { return 0.0f - low_f16(d_and_dmin >> 16); }
  };
};

template <>
struct PanelFormat<BlockQ4_K> : PanelFormatK4<BlockQ4_K> {
  static constexpr int kInner = 2, kMaxAbsWeight = 15;
  // Where the instruction takes all eight bits, the upper nibbles are multiplied in place.
  static constexpr int shift(int i) { return kWholeBytes ? 4 * i : 0; }
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int i, int k) {
    const I32x16 v = b.dword(4 + 8 * outer + k);
    return i && kWholeBytes ? v & 0xf0f0f0f0 : nibbles(v, i);
  }
};

template <>
struct PanelFormat<BlockQ5_K> : PanelFormatK4<BlockQ5_K> {
  static constexpr int kInner = 1, kMaxAbsWeight = 31;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return unpack5([&](int i) { return b.dword(4 + 5 * outer + i); }, k);
  }
};

template <>
struct PanelFormat<BlockQ6_K> : PanelFormatOf<BlockQ6_K> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 32, kInner = 1, kMaxAbsWeight = 32, kScaleBits = 8;
  static constexpr bool kSignedScales = true;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_bits(Rows16 b, int64_t g) { return b.bytes_from<64>(0, g); }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return scale_of<PanelFormat>(scale_bits(b, g)); }
  struct Header {
    I32x16 scales[4];
    F32x16 halves;
    CRIA_METHOD void read(Rows16 b) {
      halves = b.halves(0);
      CRIA_UNROLL(4)
      for (int i = 0; i < 4; i++) scales[i] = b.dword<64>(i);
    }
    CRIA_METHOD I32x16 scale(int g) const {
      return shift_right_signed(scales[g / 4] << (24 - 8 * (g % 4)), 24);
    }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 dword(Rows16 b, int64_t outer, int i) { return b.dword<64>(4 + 6 * outer + i); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return unpack6([&](int i) { return dword(b, outer, i); }, k);
  }
  CRIA_INLINE I32x16 low_bytes(Rows16 b, int64_t outer, int i, int k) { return bytes(b, outer, i, k); }
};

template <>
struct PanelFormat<BlockQ2_K> : PanelFormatOf<BlockQ2_K> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 0, kInner = 4, kMaxAbsWeight = 3, kScaleBits = 4;
  static constexpr bool kSignedScales = false;
  CRIA_INLINE I32x16 scale_bits(Rows16 b, int64_t g) { return b.bytes_from(1, g); }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return scale_of<PanelFormat>(scale_bits(b, g)); }
  static constexpr int shift(int i) { return kWholeBytes ? 2 * i : 0; }
  struct Header {
    I32x16 d_and_dmin, both[4];
    CRIA_METHOD void read(Rows16 b) {
      d_and_dmin = b.dword(0);
      for (int i = 0; i < 4; i++) both[i] = b.dword(1 + i);
    }
    CRIA_METHOD I32x16 scale(int g) const { return (both[g / 4] >> (8 * (g % 4))) & 15; }
    CRIA_METHOD I32x16 min_pair(int j) const { return words_of(nibbles(both[j / 2], 1), j % 2); }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_dmin); }
    CRIA_METHOD F32x16 minus_dmin() const { return 0.0f - low_f16(d_and_dmin >> 16); }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int i, int k) {
    const I32x16 v = b.dword(5 + 8 * outer + k);
    return kWholeBytes ? v & repeat_byte(3 << (2 * i)) : (v >> (2 * i)) & 0x03030303;
  }
  CRIA_INLINE I32x16 low_bytes(Rows16 b, int64_t outer, int i, int k) {
    return (b.dword(5 + 8 * outer + k) >> (2 * i)) & 0x03030303;
  }
};

template <>
struct PanelFormat<BlockQ3_K> : PanelFormatOf<BlockQ3_K> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 4, kInner = 1, kMaxAbsWeight = 4, kScaleBits = 6;
  static constexpr bool kSignedScales = true;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_bits(Rows16 b, int64_t g) {  // 32 taken off by turning the sign bit
    return q3_k_scale_bits([&](int w, int64_t k) { return b.bytes_from<64>(w, k); }, g) ^ 0x20202020;
  }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return scale_of<PanelFormat>(scale_bits(b, g)); }
  struct Header {
    I32x16 scales[4];
    F32x16 halves;
    CRIA_METHOD void read(Rows16 b) {
      halves = b.halves(0);
      const I32x16 w0 = b.dword<64>(0), w1 = b.dword<64>(1), w2 = b.dword<64>(2);
      for (int i = 0; i < 4; i++) scales[i] = q3_k_scale_word(w0, w1, w2, i);
    }
    CRIA_METHOD I32x16 scale(int g) const { return byte_of(scales[g / 4], g % 4) - 32; }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return unpack3([&](int i) { return b.dword<64>(3 + 3 * outer + i); }, k);
  }
  CRIA_INLINE I32x16 low_bytes(Rows16 b, int64_t outer, int i, int k) { return bytes(b, outer, i, k); }
};

template <>
struct PanelFormat<BlockIQ4_XS> : PanelFormatOf<BlockIQ4_XS> {
  static constexpr bool kSigned = true;
  static constexpr int kOffset = 0, kInner = 1, kMaxAbsWeight = 127;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return iq4_xs_scale(b.dword(0), b.dword(1), g); }
  struct Header {
    I32x16 d_and_high, low;
    CRIA_METHOD void read(Rows16 b) {
      d_and_high = b.dword(0);
      low = b.dword(1);
    }
    CRIA_METHOD I32x16 scale(int g) const { return iq4_xs_scale(d_and_high, low, g); }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_high); }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return lookup(kIq4Values, nibbles(b.dword(2 + 4 * outer + k % 4), k / 4));
  }
};

// ---- super-blocks of codes ----
//
// Products of few tokens read these; those of many read BlockK8 (matmul_widen.h). Their bytes have
// kCodebookBias still to be taken off, or one.

/// The odd scale 2s + 1, from the eight nibbles of a dword.
CRIA_INLINE I32x16 odd_scale(I32x16 eight, int g) {
  return ((g ? eight >> (4 * g - 1) : eight << 1) & 30) | set1(1);
}

template <class Book>
struct PanelFormat<PanelCodes3<Book>> : PanelFormatOf<PanelCodes3<Book>> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = kCodebookBias, kInner = 1;
  static constexpr bool kIsWidened = true;
  static constexpr int shift(int) { return 0; }
  struct Header {
    I32x16 scales[2];
    F32x16 halves;
    CRIA_METHOD void read(Rows16 b) {
      halves = b.halves(0) * PanelCodes3<Book>::kUnit;
      for (int i = 0; i < 2; i++) scales[i] = b.dword<64>(i);
    }
    CRIA_METHOD I32x16 scale(int g) const { return odd_scale(scales[g / 8], g % 8); }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return lookup(CodebookBytes<Book>::biased.v,
                  unpack3([&](int i) { return b.dword<64>(2 + 3 * outer + i); }, k));
  }
};

template <class Source>
struct PanelFormat<PanelCodes4<Source>> : PanelFormatOf<PanelCodes4<Source>> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = kCodebookBias, kInner = 1;
  static constexpr bool kIsWidened = true;
  static constexpr int shift(int) { return 0; }
  struct Header {
    I32x16 scales;
    F32x16 halves;
    CRIA_METHOD void read(Rows16 b) {
      halves = b.halves(0) * Source::kUnit;
      scales = b.dword<64>(0);
    }
    CRIA_METHOD I32x16 scale(int g) const { return odd_scale(scales, g); }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) {
    return lookup(CodebookBytes<typename Source::Values>::biased.v,
                  nibbles(b.dword<64>(1 + 4 * outer + k % 4), k / 4));
  }
};

// Groups of 32 by their place alone: there is one scale.
template <>
struct PanelFormat<PanelTernary> : PanelFormatOf<PanelTernary> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = 1, kInner = 4, kGroups = 8;
  static constexpr bool kIsWidened = true;
  static constexpr int shift(int) { return 0; }
  struct Header {
    F32x16 halves;
    CRIA_METHOD void read(Rows16 b) { halves = b.halves(0); }
    CRIA_METHOD I32x16 scale(int) const { return set1(1); }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int i, int k) {
    return (b.dword<64>(8 * outer + k) >> (2 * i)) & 0x03030303;
  }
};

/// 256 weights as biased bytes, sixteen scales as bytes and the float scale: what the tiles of all formats
/// above read. Made in scratch, never kept.
struct BlockK8 {
  float d;
  uint8_t scales[16];
  uint8_t qs[256];
  static constexpr int kElements = 256, kGroup = 16;
  static constexpr bool kHasMin = false;
};
template <>
struct PanelFormat<BlockK8> : PanelFormatOf<BlockK8> {
  static constexpr bool kSigned = false;
  static constexpr int kOffset = kCodebookBias, kInner = 1, kMaxAbsWeight = 127;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_at(Rows16 b, int64_t g) { return b.bytes_from(1, g) & 255; }
  struct Header {
    F32x16 scale;
    CRIA_METHOD void read(Rows16 b) { scale = as_f32(b.dword(0)); }
    CRIA_METHOD F32x16 d() const { return scale; }
  };
  CRIA_INLINE I32x16 bytes(Rows16 b, int64_t outer, int, int k) { return b.dword(5 + 8 * outer + k); }
};

// ---- blocks with a scale for every 16 columns ----
//
// A block is kParts times 32 columns. bytes(block, part, k): columns 4k .. 4k + 3 of a part; d(block, part,
// half): the scale of its columns 16 * half .. 16 * half + 15. Products of many tokens read BlockS8.

template <class B>
struct ScaledFormatOf : PanelFormatOf<B> {
  static constexpr bool kSigned = false;
  static constexpr int kParts = B::kElements / 32;
};

template <>
struct PanelFormat<PanelMXFP4> : ScaledFormatOf<PanelMXFP4> {
  static constexpr int kOffset = kCodebookBias;
  CRIA_INLINE F32x16 d(Rows16 b, int, int) {
    return as_f32(load_i16(reinterpret_cast<const int16_t*>(b.p) + 16 * b.half) << 16);
  }
  CRIA_INLINE I32x16 bytes(Rows16 b, int, int k) {
    return lookup(CodebookBytes<Fp4Values>::biased.v, nibbles(b.dword<64>(k % 4), k / 4));
  }
};
template <>
struct PanelFormat<PanelNVFP4> : ScaledFormatOf<PanelNVFP4> {
  static constexpr int kOffset = kCodebookBias;
  // e4m3's exponent and mantissa in float32's places, whose exponents are 119 apart.
  CRIA_INLINE F32x16 d(Rows16 b, int part, int half) {
    const int at = 2 * part + half;
    return as_f32(((b.dword(0) >> (8 * at)) & 0x7f) << 20) * 0x1p119f;
  }
  CRIA_INLINE I32x16 bytes(Rows16 b, int part, int k) {
    return lookup(CodebookBytes<Fp4Values>::biased.v,
                  nibbles(b.dword(1 + 4 * part + 2 * (k / 4) + k % 2), k % 4 / 2));
  }
};
template <>
struct PanelFormat<PanelQ1_0> : ScaledFormatOf<PanelQ1_0> {
  static constexpr int kOffset = 1;
  CRIA_INLINE F32x16 d(Rows16 b, int, int) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int part, int k) {
    const I32x16 bits = b.dword<64>(part);
    return (k ? bits >> (k - 1) : bits << 1) & 0x02020202;
  }
};
template <>
struct PanelFormat<PanelQ2_0> : ScaledFormatOf<PanelQ2_0> {
  static constexpr int kOffset = 1;
  CRIA_INLINE F32x16 d(Rows16 b, int, int) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int part, int k) {
    return (b.dword<64>(2 * part + k / 4) >> (2 * (k % 4))) & 0x03030303;
  }
};

/// 32 weights as biased bytes, and the scales of both halves. Made in scratch, never kept.
struct BlockS8 {
  float d[2];
  uint8_t qs[32];
  static constexpr int kElements = 32, kGroup = 16;
  static constexpr bool kHasMin = false;
};
template <>
struct PanelFormat<BlockS8> : ScaledFormatOf<BlockS8> {
  static constexpr int kOffset = kCodebookBias;
  CRIA_INLINE F32x16 d(Rows16 b, int, int half) { return as_f32(b.dword(half)); }
  CRIA_INLINE I32x16 bytes(Rows16 b, int, int k) { return b.dword(2 + k); }
};

/// Bytes of a panel's block.
template <class F>
constexpr int kPanelBlockBytes = kPanelRows * static_cast<int>(sizeof(typename F::Block));

}  // namespace cria::CRIA_ISA
