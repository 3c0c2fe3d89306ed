// What the quantized products need to know of each weight format: how the dwords of an repacked block
// (repack.h) become bytes that meet four activations each, and its scales. Compiled per level.
//
// The offsets below count dwords where dword_place() puts those of the file's blocks (blocks.h). Bytes are
// unsigned with kOffset still to be taken off, or (kSigned) signed.
#pragma once

#include "kernels/blocks.h"
#include "kernels/cpu/bit_layout.h"

namespace cria::CRIA_ISA {

/// Sixteen of the 32 rows of an repacked block.
struct HalfBlock {
  const uint8_t* p;  // of the block
  int half;

  /// Dword `at` of each row, in a block whose dwords begin at byte kFrom.
  template <int kFrom = 0>
  CRIA_METHOD I32x16 dword(int64_t at) const {
    return load_i32(p + kFrom + 128 * at + 64 * half);
  }
  /// Dword g / 4 from `at` on, with byte g % 4 of each row in its lowest byte and the next one above: what
  /// lies beyond is another row's.
  template <int kFrom = 0>
  CRIA_METHOD I32x16 bytes_from(int at, int64_t g) const {
    return load_i32_unaligned(p + kFrom + 128 * (at + g / 4) + 64 * half + g % 4);
  }
  /// The halves that stand for 32 rows at byte `at`.
  CRIA_METHOD F32x16 halves(int at) const {
    return load_f16(reinterpret_cast<const uint16_t*>(p + at) + 16 * half);
  }
};

/// The low or the high nibbles.
CRIA_INLINE I32x16 nibbles(I32x16 v, int high) { return (high ? v >> 4 : v) & 0x0f0f0f0f; }

// ---- blocks of 32: sum x (d of the row) x (d of the token), plus m x (the token's weighted sum) ----
//
// bytes(block, k): columns 4k .. 4k + 3.

struct FormatQ8_0 {
  static constexpr DType kType = DType::q8_0;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(HalfBlock b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) { return b.dword<64>(k); }
};
struct FormatQ4_0 {
  static constexpr DType kType = DType::q4_0;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 8;
  CRIA_INLINE F32x16 d(HalfBlock b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) { return nibbles(b.dword<64>(k % 4), k / 4); }
};
struct FormatIQ4_NL {
  static constexpr DType kType = DType::iq4_nl;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(HalfBlock b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) {
    return lookup(kIq4Values, nibbles(b.dword<64>(k % 4), k / 4));
  }
};
struct FormatQ4_1 {
  static constexpr DType kType = DType::q4_1;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(HalfBlock b) { return low_f16(b.dword(0)); }
  CRIA_INLINE F32x16 m(HalfBlock b) { return low_f16(b.dword(0) >> 16); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) { return nibbles(b.dword(1 + k % 4), k / 4); }
};
struct FormatQ5_0 {
  static constexpr DType kType = DType::q5_0;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 16;
  CRIA_INLINE F32x16 d(HalfBlock b) { return b.halves(0); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) {
    return unpack5([&](int i) { return b.dword<64>(i); }, k);
  }
};
struct FormatQ5_1 {
  static constexpr DType kType = DType::q5_1;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0;
  CRIA_INLINE F32x16 d(HalfBlock b) { return low_f16(b.dword(0)); }
  CRIA_INLINE F32x16 m(HalfBlock b) { return low_f16(b.dword(0) >> 16); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int k) {
    return unpack5([&](int i) { return b.dword(1 + i); }, k);
  }
};

// ---- super-blocks of 256: the scales multiply in as integers, so a block's sum is one exact int32 ----
//
// The eight groups of 32 columns come in kOuter times kInner: group(outer, i) = kInner * outer + i, so that
// only kInner bodies need code. bytes(block, outer, i, k): columns 4k .. 4k + 3 of the group, times
// 2^shift(i), which the caller takes off the products; low_bytes, of formats with sixteen groups, not so
// multiplied.
//
// kMaxAbsWeight: of the magnitudes of weights without their scale.
//
// A Header has the scales of sixteen rows in registers: scale(g) of group g; min_pair(j) the minima of groups
// 2j and 2j + 1 as two words, which meet the activations' sums. Tiles have no registers to keep it in, and
// fetch a scale when they need it: scale_at(block, g). scale_bits(block, g) has the kScaleBits of group g in
// the lowest byte of each lane, those of group g + 1 in the next (scale_of, scales_of).

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

// Shared by Q4_K and Q5_K: eight groups of 32, scale and min of six bits; k4_scales() for sixteen rows.
struct FormatK4 {
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0, kGroups = 8, kScaleBits = 6;
  static constexpr bool kSignedScales = false;
  CRIA_INLINE I32x16 scale_bits(HalfBlock b, int64_t g) {
    const I32x16 w0 = b.bytes_from(1, g % 4);
    if (g < 4) return w0;
    return (b.bytes_from(3, g % 4) & 0x0f0f0f0f) | ((w0 >> 2) & 0x30303030);
  }
  CRIA_INLINE I32x16 scale_at(HalfBlock b, int64_t g) { return scale_of<FormatK4>(scale_bits(b, g)); }
  struct Header {
    I32x16 d_and_dmin, scales[2], mins[2];
    CRIA_METHOD void read(HalfBlock b) {
      const I32x16 w0 = b.dword(1), w1 = b.dword(2), w2 = b.dword(3);
      const int32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, upper = 0x30303030;
      d_and_dmin = b.dword(0);
      scales[0] = w0 & six;
      scales[1] = (w2 & four) | ((w0 >> 2) & upper);
      mins[0] = w1 & six;
      mins[1] = ((w2 >> 4) & four) | ((w1 >> 2) & upper);
    }
    CRIA_METHOD I32x16 scale(int g) const { return byte_of(scales[g / 4], g % 4); }
    CRIA_METHOD I32x16 min_pair(int j) const { return words_of(mins[j / 2], j % 2); }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_dmin); }
    CRIA_METHOD F32x16 minus_dmin() const { return 0.0f - low_f16(d_and_dmin >> 16); }
  };
};

struct FormatQ4_K : FormatK4 {
  static constexpr DType kType = DType::q4_k;
  static constexpr int kInner = 2, kMaxAbsWeight = 15;
  // Where the instruction takes whole bytes the upper nibbles are multiplied where they stand.
  static constexpr int shift(int i) { return kWholeBytes ? 4 * i : 0; }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int i, int k) {
    const I32x16 v = b.dword(4 + 8 * outer + k);
    return i && kWholeBytes ? v & 0xf0f0f0f0 : nibbles(v, i);
  }
};

struct FormatQ5_K : FormatK4 {
  static constexpr DType kType = DType::q5_k;
  static constexpr int kInner = 1, kMaxAbsWeight = 31;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int, int k) {
    return unpack5([&](int i) { return b.dword(4 + 5 * outer + i); }, k);
  }
};

struct FormatQ6_K {
  static constexpr DType kType = DType::q6_k;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 32, kGroups = 16, kInner = 1, kMaxAbsWeight = 32, kScaleBits = 8;
  static constexpr bool kSignedScales = true;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_bits(HalfBlock b, int64_t g) { return b.bytes_from<64>(0, g); }
  CRIA_INLINE I32x16 scale_at(HalfBlock b, int64_t g) { return scale_of<FormatQ6_K>(scale_bits(b, g)); }
  struct Header {
    I32x16 scales[4];
    F32x16 halves;
    CRIA_METHOD void read(HalfBlock b) {
      halves = b.halves(0);
      CRIA_UNROLL(4)
      for (int i = 0; i < 4; i++) scales[i] = b.dword<64>(i);
    }
    CRIA_METHOD I32x16 scale(int g) const {
      return shift_right_signed(scales[g / 4] << (24 - 8 * (g % 4)), 24);
    }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 dword(HalfBlock b, int64_t outer, int i) { return b.dword<64>(4 + 6 * outer + i); }
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int, int k) {
    return unpack6([&](int i) { return dword(b, outer, i); }, k);
  }
  CRIA_INLINE I32x16 low_bytes(HalfBlock b, int64_t outer, int i, int k) { return bytes(b, outer, i, k); }
};

struct FormatQ2_K {
  static constexpr DType kType = DType::q2_k;
  static constexpr bool kSigned = false, kHasMin = true;
  static constexpr int kOffset = 0, kGroups = 16, kInner = 4, kMaxAbsWeight = 3, kScaleBits = 4;
  static constexpr bool kSignedScales = false;
  CRIA_INLINE I32x16 scale_bits(HalfBlock b, int64_t g) { return b.bytes_from(1, g); }
  CRIA_INLINE I32x16 scale_at(HalfBlock b, int64_t g) { return scale_of<FormatQ2_K>(scale_bits(b, g)); }
  static constexpr int shift(int i) { return kWholeBytes ? 2 * i : 0; }
  struct Header {
    I32x16 d_and_dmin, both[4];
    CRIA_METHOD void read(HalfBlock b) {
      d_and_dmin = b.dword(0);
      for (int i = 0; i < 4; i++) both[i] = b.dword(1 + i);
    }
    CRIA_METHOD I32x16 scale(int g) const { return (both[g / 4] >> (8 * (g % 4))) & 15; }
    CRIA_METHOD I32x16 min_pair(int j) const { return words_of(nibbles(both[j / 2], 1), j % 2); }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_dmin); }
    CRIA_METHOD F32x16 minus_dmin() const { return 0.0f - low_f16(d_and_dmin >> 16); }
  };
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int i, int k) {
    const I32x16 v = b.dword(5 + 8 * outer + k);
    return kWholeBytes ? v & repeat_byte(3 << (2 * i)) : (v >> (2 * i)) & 0x03030303;
  }
  CRIA_INLINE I32x16 low_bytes(HalfBlock b, int64_t outer, int i, int k) {
    return (b.dword(5 + 8 * outer + k) >> (2 * i)) & 0x03030303;
  }
};

struct FormatQ3_K {
  static constexpr DType kType = DType::q3_k;
  static constexpr bool kSigned = false, kHasMin = false;
  static constexpr int kOffset = 4, kGroups = 16, kInner = 1, kMaxAbsWeight = 4, kScaleBits = 6;
  static constexpr bool kSignedScales = true;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_bits(HalfBlock b, int64_t g) {  // those of q3_k_scales(), less 32
    const int i = static_cast<int>(g / 4);
    const I32x16 low = b.bytes_from<64>(i % 2, g % 4) >> (4 * (i / 2));
    const I32x16 high = (b.bytes_from<64>(2, g % 4) >> (2 * i)) << 4;
    return ((low & 0x0f0f0f0f) | (high & 0x30303030)) ^ 0x20202020;
  }
  CRIA_INLINE I32x16 scale_at(HalfBlock b, int64_t g) { return scale_of<FormatQ3_K>(scale_bits(b, g)); }
  struct Header {
    I32x16 scales[4];
    F32x16 halves;
    CRIA_METHOD void read(HalfBlock b) {
      halves = b.halves(0);  // q3_k_scales() for sixteen rows
      const I32x16 w[2] = {b.dword<64>(0), b.dword<64>(1)}, w2 = b.dword<64>(2);
      for (int i = 0; i < 4; i++)
        scales[i] = nibbles(w[i % 2], i / 2) | ((i == 3 ? w2 >> 2 : w2 << (4 - 2 * i)) & 0x30303030);
    }
    CRIA_METHOD I32x16 scale(int g) const { return byte_of(scales[g / 4], g % 4) - 32; }
    CRIA_METHOD F32x16 d() const { return halves; }
  };
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int, int k) {
    return unpack3([&](int i) { return b.dword<64>(3 + 3 * outer + i); }, k);
  }
  CRIA_INLINE I32x16 low_bytes(HalfBlock b, int64_t outer, int i, int k) { return bytes(b, outer, i, k); }
};

struct FormatIQ4_XS {
  static constexpr DType kType = DType::iq4_xs;
  static constexpr bool kSigned = true, kHasMin = false;
  static constexpr int kOffset = 0, kGroups = 8, kInner = 1, kMaxAbsWeight = 127;
  static constexpr int shift(int) { return 0; }
  CRIA_INLINE I32x16 scale_at(HalfBlock b, int64_t g) {  // iq4_xs_scale() for sixteen rows
    const I32x16 high = (b.dword(0) >> static_cast<int>(16 + 2 * g)) & 3;
    const I32x16 six = ((b.dword(1) >> static_cast<int>(4 * g)) & 15) | (high << 4);
    return six - 32;
  }
  struct Header {
    I32x16 d_and_high, low;
    CRIA_METHOD void read(HalfBlock b) {
      d_and_high = b.dword(0);
      low = b.dword(1);
    }
    CRIA_METHOD I32x16 scale(int g) const {  // iq4_xs_scale() for sixteen rows
      const I32x16 high = (d_and_high >> (16 + 2 * g)) & 3;
      const I32x16 six = ((low >> (4 * g)) & 15) | (high << 4);
      return six - 32;
    }
    CRIA_METHOD F32x16 d() const { return low_f16(d_and_high); }
  };
  CRIA_INLINE I32x16 bytes(HalfBlock b, int64_t outer, int, int k) {
    return lookup(kIq4Values, nibbles(b.dword(2 + 4 * outer + k % 4), k / 4));
  }
};

/// Bytes of a panel's block.
template <class F>
constexpr int kPanelBlockBytes = kPanelRows * block_shape(F::kType).bytes();

}  // namespace cria::CRIA_ISA
