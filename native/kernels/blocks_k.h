// The k-quants, Q8_K that they and the i-quants are multiplied with, and the ternary formats. See blocks.h.
#pragma once

#include "kernels/blocks_32.h"

namespace cria {

// ---- packed scales ----

/// The six-bit scales and mins of Q4_K and Q5_K, each 0..63, from the three words of the block: group g's is
/// byte g % 4 of word g / 4. Groups 0..3 have the low six bits of words 0 (scales) and 1 (mins); for groups
/// 4..7 word 2 holds the low nibbles (scales low, mins high), and the top two bits of words 0 and 1 are their
/// upper two. V: a word, or that of sixteen rows.
template <class V>
struct K4Scales {
  V scale[2], min[2];
};
/// Word i of the scales from words 0 and 2; kMin: of the mins, from words 1 and 2.
template <bool kMin, class V>
CRIA_BLOCK_FUNCTION V k4_scale_word(V own, V low, int i) {
  if (i == 0) return own & 0x3f3f3f3f;
  return ((kMin ? low >> 4 : low) & 0x0f0f0f0f) | ((own >> 2) & 0x30303030);
}
template <class V>
CRIA_BLOCK_FUNCTION K4Scales<V> k4_scales(V w0, V w1, V w2) {
  return {{k4_scale_word<false>(w0, w2, 0), k4_scale_word<false>(w0, w2, 1)},
          {k4_scale_word<true>(w1, w2, 0), k4_scale_word<true>(w1, w2, 1)}};
}
/// Group g's scale or min alone, in the low six bits of a byte; those above are not defined. byte(w, k): byte
/// k of word w, in the lowest byte of a lane. Each byte above it that the lane has of the word after it
/// becomes the next group's.
template <bool kMin, class Byte, class Index>
CRIA_BLOCK_FUNCTION auto k4_scale_bits(Byte byte, Index g) {
  const auto own = byte(kMin ? 1 : 0, g % 4);
  if (g < 4) return own;
  return k4_scale_word<kMin>(own, byte(2, g % 4), 1);
}

/// The sixteen six-bit scales of Q3_K with 32 still added, each 0..63, from the three words of the block:
/// scale g is byte g % 4 of word g / 4. Its low nibble is in byte g % 8 of the twelve (high nibble when g >=
/// 8), its upper two bits are bits 2 * (g / 4) and the next of byte 8 + g % 4. V as above. Word i of the
/// four:
template <class V>
CRIA_BLOCK_FUNCTION V q3_k_scale_word(V w0, V w1, V w2, int i) {
  const V low = i % 2 ? w1 : w0;
  return ((i < 2 ? low : low >> 4) & 0x0f0f0f0f) | ((i == 3 ? w2 >> 2 : w2 << (4 - 2 * i)) & 0x30303030);
}
/// Scale g alone, and byte as in k4_scale_bits().
template <class Byte, class Index>
CRIA_BLOCK_FUNCTION auto q3_k_scale_bits(Byte byte, Index g) {
  const int i = static_cast<int>(g / 4);
  const auto low = byte(i % 2, g % 4) >> (4 * (i / 2));
  const auto high = (byte(2, g % 4) >> (2 * i)) << 4;
  return (low & 0x0f0f0f0f) | (high & 0x30303030);
}

// ---- super-blocks of 256 ----

/// 16 groups of 16: (d * scale) * q - dmin * min. scales[g]: scale in bits 0-3, min in bits 4-7.
/// Element e, two bits: byte 32*(e/128) + e%32 of qs, bits 2k and 2k+1 with k = (e%128)/32.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;

  static constexpr DType kType = DType::q2_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 20, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    return qs[32 * (s / 8) + 16 * (s % 2) + j] >> (2 * (s % 8 / 2)) & 3;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return scales[g] & 15; }
  CRIA_BLOCK_METHOD int min(int g) const { return scales[g] >> 4; }
};

/// 16 groups of 16: (d * (scale - 32)) * (q - 4). Low two bits of q as in Q2_K; bit 2 of q is bit e/32 of
/// hmask[e%32]. The 16 six-bit scales: see q3_k_scale_word().
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;

  static constexpr DType kType = DType::q3_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 24, kPanelBits = 3;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::k8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int low = qs[32 * (s / 8) + 16 * (s % 2) + j] >> (2 * (s % 8 / 2)) & 3;
    return (low | (hmask[16 * (s % 2) + j] >> (s / 2) & 1) << 2) - 4;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return (q3_k_scale_bits(PackedBytes{scales}, g) & 63) - 32; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return {.low = 8 + 8 * (group / 4) + k,
            .low_shift = 2 * (group % 4),
            .low_bits = 2,
            .high = k,
            .high_shift = group,
            .high_bits = 1,
            .scattered = false};
  }
};

/// 8 groups of 32: (d * scale) * q - dmin * min. Element e: byte 32*(e/64) + e%32 of qs, low nibble when
/// (e/32) is even. The 8 six-bit scales and mins: see k4_scales().
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];

  static constexpr DType kType = DType::q4_k;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k4;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    return nibble(qs[32 * (s / 4) + 16 * (s % 2) + j], s / 2 % 2);
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return k4_scale_bits<false>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD int min(int g) const { return k4_scale_bits<true>(PackedBytes{scales}, g) & 63; }
};

/// As Q4_K with five bits: bit 4 of element e is bit e/32 of qh[e%32].
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];

  static constexpr DType kType = DType::q5_k;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k5;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int i = 16 * (s % 2) + j;
    return nibble(qs[32 * (s / 4) + i], s / 2 % 2) | (qh[i] >> (s / 2) & 1) << 4;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return k4_scale_bits<false>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD int min(int g) const { return k4_scale_bits<true>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return {.low = 8 + 8 * (group / 2) + k,
            .low_shift = 4 * (group % 2),
            .low_bits = 4,
            .high = k,
            .high_shift = group,
            .high_bits = 1,
            .scattered = false};
  }
};

/// 16 groups of 16: (d * scale) * (q - 32). With h = e/128, k = (e%128)/32, i = e%32:
/// low four bits in byte 64*h + 32*(k%2) + i of ql (high nibble when k >= 2), upper two in bits 2k, 2k+1 of
/// qh[32*h + i].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;

  static constexpr DType kType = DType::q6_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 48, kPanelBits = 6;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::k6;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int half = s / 8, k = s % 8 / 2, i = 16 * (s % 2) + j;
    return (nibble(ql[64 * half + 32 * (k % 2) + i], k / 2) | (qh[32 * half + i] >> (2 * k) & 3) << 4) - 32;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return scales[g]; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    const int half = group / 4, quarter = group % 4;
    return {.low = 16 * half + 8 * (quarter % 2) + k,
            .low_shift = 4 * (quarter / 2),
            .low_bits = 4,
            .high = 32 + 8 * half + k,
            .high_shift = 2 * quarter,
            .high_bits = 2,
            .scattered = false};
  }
};

/// Activations only: d * q, d a float32; bsums[g] is the sum of qs[16g .. 16g+15].
struct BlockQ8_K {
  float d;
  int8_t qs[256];
  int16_t bsums[16];

  static constexpr DType kType = DType::q8_k;
  static constexpr int kElements = 256, kGroup = 256;
  static constexpr bool kHasMin = false;
  template <class Machine>
  CRIA_BLOCK_METHOD float block_scale() const {
    return d;
  }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return qs[16 * s + j]; }
};

// ---- super-blocks of 256: ternary ----

/// d * (code - 1). Elements e below 160: of the byte at e % 32, digit e / 32; then, with i = e - 160 below
/// 80, of the byte at 32 + i % 16, digit i / 16; then, with i = e - 240, of qh[i % 4], digit i / 4. A byte is
/// five base-3 digits as a fraction of 256, the first the most significant (rounded up): digit n is the
/// integer part of 3 * frac(3^n * byte / 256).
struct BlockTQ1_0 {
  uint8_t qs[48];
  uint8_t qh[4];
  uint16_t d;

  static constexpr DType kType = DType::tq1_0;
  static constexpr int kElements = 256, kGroup = 256;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  using Values = TernaryValues;
  CRIA_BLOCK_METHOD static int digit(int byte, int n) {
    const int power = static_cast<int>(0x511b090301ull >> (8 * n) & 255u);  // 3^n
    return ((byte * power & 255) * 3) >> 8;
  }
  CRIA_BLOCK_METHOD int code(int e) const {
    if (e < 160) return digit(qs[e % 32], e / 32);
    if (e < 240) return digit(qs[32 + e % 16], (e - 160) / 16);
    return digit(qh[e % 4], (e - 240) / 4);
  }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return code(16 * s + j) - 1; }
};

/// d * (q - 1). q as in Q2_K.
struct BlockTQ2_0 {
  uint8_t qs[64];
  uint16_t d;

  static constexpr DType kType = DType::tq2_0;
  static constexpr int kElements = 256, kGroup = 256, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  using Values = TernaryValues;
  CRIA_BLOCK_METHOD int code(int e) const { return qs[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32)) & 3; }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return code(16 * s + j) - 1; }
};

}  // namespace cria
