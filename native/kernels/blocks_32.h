// Floats, and the block formats that are multiplied with activations in blocks of 32 (Q8_0, Q8_1). See
// blocks.h.
#pragma once

#include "kernels/blocks_base.h"

namespace cria {

/// Bit 4 of element 16 s + j of Q5_0 and Q5_1, in its place.
CRIA_BLOCK_FUNCTION int fifth_bit(const uint8_t qh[4], int s, int j) {
  uint32_t bits;
  __builtin_memcpy(&bits, qh, 4);
  return static_cast<int>(bits >> (16 * s + j) & 1u) << 4;
}

// ---- floats ----

struct ElementF32 {
  float value;
  static constexpr DType kType = DType::f32;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::f32;
};
struct ElementF16 {
  uint16_t bits;
  static constexpr DType kType = DType::f16;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::f16;
};
struct ElementBF16 {
  uint16_t bits;
  static constexpr DType kType = DType::bf16;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::bf16;
};

// ---- blocks of 32 ----

/// d * (q - 8). qs[j]: element j in bits 0-3, element j + 16 in bits 4-7.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::q4_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q4;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s) - 8; }
};

/// d * q + m. qs as in Q4_0.
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];

  static constexpr DType kType = DType::q4_1;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::q8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s); }
};

/// d * (q - 16). Low four bits as in Q4_0; bit e of the little-endian word qh is bit 4 of element e.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];

  static constexpr DType kType = DType::q5_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return (nibble(qs[j], s) | fifth_bit(qh, s, j)) - 16; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int, int k) {
    return {.low = 1 + k % 4,
            .low_shift = 4 * (k / 4),
            .low_bits = 4,
            .high = 0,
            .high_shift = 4 * k,
            .high_bits = 1,
            .scattered = true};
  }
};

/// d * q + m. q as in Q5_0.
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qh[4];
  uint8_t qs[16];

  static constexpr DType kType = DType::q5_1;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::q8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s) | fifth_bit(qh, s, j); }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return BlockQ5_0::bit_layout(group, k);
  }
};

/// d * q. Weights and activations.
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];

  static constexpr DType kType = DType::q8_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return qs[16 * s + j]; }
};

/// Activations only: Q8_0 and s = binary16(d * sum of qs), where d is the scale before its rounding to
/// binary16.
struct BlockQ8_1 {
  uint16_t d;
  uint16_t s;
  int8_t qs[32];

  static constexpr DType kType = DType::q8_1;
  static constexpr int kElements = 32, kGroup = 32;
  static constexpr bool kHasMin = false;
  CRIA_BLOCK_METHOD int quant(int part, int j) const { return qs[16 * part + j]; }
};

/// d * kIq4Values[q]. qs as in Q4_0.
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::iq4_nl;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return iq4_value(nibble(qs[j], s)); }
};

// ---- blocks of 32, 64 and 128: small floats, bits and ternary ----
//
// Their products have a scale for every 16 columns (docs/numerics.md).

/// The values of e2m1 (OCP Microscaling Formats 1.0), doubled.
using Fp4Values = Codebook<codebook_word(0, 1, 2, 3), codebook_word(4, 6, 8, 12),
                           codebook_word(0, -1, -2, -3), codebook_word(-4, -6, -8, -12)>;
/// -1, 0 and 1; a code of 3, which no quantizer writes, is 2.
using TernaryValues = Codebook<codebook_word(-1, 0, 1, 2)>;

/// 2^(e - 128) * Fp4Values[code]: e8m0, halved since the values are doubled. qs as in Q4_0.
struct BlockMXFP4 {
  uint8_t e;
  uint8_t qs[16];

  static constexpr DType kType = DType::mxfp4;
  static constexpr int kElements = 32, kGroup = 32;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::s4;
  using Values = Fp4Values;
  CRIA_BLOCK_METHOD uint32_t scale_bits() const {
    return e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23;
  }
  template <class Machine>
  CRIA_BLOCK_METHOD float block_scale() const {
    return block_float(scale_bits());
  }
  CRIA_BLOCK_METHOD int code(int i) const { return nibble(qs[i % 16], i / 16); }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return Values::at(nibble(qs[j], s)); }
};

/// An unsigned e4m3 as a multiple of 2^-9; 0x7f, its NaN, is zero as in llama.cpp.
CRIA_BLOCK_FUNCTION int ue4m3_multiple(uint8_t x) {
  const int exponent = x >> 3 & 15, mantissa = x & 7;
  if (x == 0x7f) return 0;
  return exponent == 0 ? mantissa : (8 + mantissa) << (exponent - 1);
}

/// 4 groups of 16: (2^-10 * ue4m3_multiple(scales[g])) * Fp4Values[code], halved since the values are
/// doubled. Group g: qs[8g + j] holds its elements j (bits 0-3) and j + 8 (bits 4-7).
struct BlockNVFP4 {
  uint8_t scales[4];
  uint8_t qs[32];

  static constexpr DType kType = DType::nvfp4;
  static constexpr int kElements = 64, kGroup = 16;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::s4;
  using Values = Fp4Values;
  template <class Machine>
  CRIA_BLOCK_METHOD float block_scale() const {
    return 0x1p-10f;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return ue4m3_multiple(scales[g]); }
  CRIA_BLOCK_METHOD int code(int e) const { return nibble(qs[8 * (e / 16) + e % 8], e % 16 / 8); }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return Values::at(code(16 * s + j)); }
};

/// d * (bit ? 1 : -1). Element e: bit e % 8 of qs[e / 8].
struct BlockQ1_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::q1_0;
  static constexpr int kElements = 128, kGroup = 128;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::s4;
  using Values = Codebook<codebook_word(-1, 1, 0, 0)>;
  CRIA_BLOCK_METHOD int code(int e) const { return qs[e / 8] >> (e % 8) & 1; }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return 2 * code(16 * s + j) - 1; }
};

/// d * (q - 1). Element e: bits 2 (e % 4) and the next of qs[e / 4].
struct BlockQ2_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::q2_0;
  static constexpr int kElements = 64, kGroup = 64;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::s4;
  using Values = TernaryValues;
  CRIA_BLOCK_METHOD int code(int e) const { return qs[e / 4] >> (2 * (e % 4)) & 3; }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return code(16 * s + j) - 1; }
};

}  // namespace cria
