// The i-quants: values from tables. IQ4_XS has a table of single values, the others have grids of four or
// eight at a time (iq_grids.h). See blocks.h.
//
// Of a format with a grid, element e is value(code(e)): the code is the entry's code of that element (two
// bits; IQ3 three), with the sign above it (bit 2; IQ3 bit 3). codes8(i) has those of elements 8i .. 8i + 7,
// a byte each. A scale is 2 * scale4 + 1, and d is multiplied with kUnit.
#pragma once

#include "kernels/blocks_base.h"
#include "kernels/iq_grids.h"

namespace cria {

/// The six-bit scale of IQ4_XS's group g with its offset taken off, -32..31, from the first two words of the
/// block: nibble g of `low`, and bits 2g, 2g + 1 of the upper half of `header`. V as above.
template <class V, class Index>
CRIA_BLOCK_FUNCTION V iq4_xs_scale(V header, V low, Index g) {
  const V high = (header >> static_cast<int>(16 + 2 * g)) & 3;
  return (((low >> static_cast<int>(4 * g)) & 15) | (high << 4)) - 32;
}

/// 8 groups of 32: (d * (scale - 32)) * kIq4Values[q]. Group g: qs[16g + j] holds its elements j (bits 0-3)
/// and j + 16 (bits 4-7). The six-bit scales: see iq4_xs_scale().
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];

  static constexpr DType kType = DType::iq4_xs;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  using Values = Iq4Values;
  CRIA_BLOCK_METHOD int code(int e) const { return nibble(qs[16 * (e / 32) + e % 16], e % 32 / 16); }
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return iq4_value(nibble(qs[16 * (s / 2) + j], s % 2)); }
  CRIA_BLOCK_METHOD int scale(int g) const {
    uint32_t words[2];
    __builtin_memcpy(words, this, sizeof words);
    return static_cast<int>(iq4_xs_scale(words[0], words[1], g));
  }
};

// ---- grids ----

/// The low eight bits of x, one in the lowest bit of each byte.
CRIA_BLOCK_FUNCTION uint64_t spread_bits(uint32_t x) {
  uint64_t v = x & 255u;
  v = (v | v << 28) & 0x0000000f0000000full;
  v = (v | v << 14) & 0x0003000300030003ull;
  return (v | v << 7) & 0x0101010101010101ull;
}
/// The sign bytes that IQ2 and IQ3 keep in seven bits: of eight, an even number are set.
CRIA_BLOCK_FUNCTION uint32_t even_signs(uint32_t seven) {
  uint32_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  return seven | ((parity ^ parity >> 1) & 1u) << 7;
}
/// The codes of an entry of eight elements, two bits each.
CRIA_BLOCK_FUNCTION uint64_t grid_codes8(int grid, uint32_t index) {
  uint64_t v = iq_grid_entry(grid + static_cast<int>(index));
  v = (v | v << 24) & 0x000000ff000000ffull;
  v = (v | v << 12) & 0x000f000f000f000full;
  return (v | v << 6) & 0x0303030303030303ull;
}
/// Of an entry of four elements, three bits each in nibbles.
CRIA_BLOCK_FUNCTION uint64_t grid_codes4(int grid, uint32_t index) {
  uint64_t v = iq_grid_entry(grid + static_cast<int>(index));
  v = (v | v << 8) & 0x00ff00ffull;
  return (v | v << 4) & 0x0f0f0f0full;
}

// What every block with a grid has.
#define CRIA_GRID_METHODS                                                \
  template <class Machine>                                               \
  CRIA_BLOCK_METHOD float block_scale() const {                          \
    return Machine::from_f16(half()) * kUnit;                            \
  }                                                                      \
  CRIA_BLOCK_METHOD int scale(int g) const { return 2 * scale4(g) + 1; } \
  CRIA_BLOCK_METHOD int code(int e) const {                              \
    return static_cast<int>(codes8(e / 8) >> (8 * (e % 8)) & 255u);      \
  }                                                                      \
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return Values::at(code(16 * s + j)); }

/// The magnitudes of IQ2: 8, 25 and 43.
using Iq2Values = Codebook<codebook_word(8, 25, 43, 0), codebook_word(-8, -25, -43, 0)>;
using Iq3XxsValues = Codebook<codebook_word(4, 12, 20, 28), codebook_word(36, 44, 52, 62),
                              codebook_word(-4, -12, -20, -28), codebook_word(-36, -44, -52, -62)>;
using Iq3SValues = Codebook<codebook_word(1, 3, 5, 7), codebook_word(9, 11, 13, 15),
                            codebook_word(-1, -3, -5, -7), codebook_word(-9, -11, -13, -15)>;
/// IQ1: -1, 0 or 1 in eighths, plus an eighth or minus one.
using Iq1Values = Codebook<codebook_word(-7, 1, 9, 0), codebook_word(-9, -1, 7, 0)>;

/// 8 groups of 32: (d / 8 * (2 * scale4 + 1)) * value. qs: of group g eight bytes, four indices and then a
/// word of four times seven bits of signs, and the scale in the highest four.
struct BlockIQ2_XXS {
  uint16_t d;
  uint8_t qs[64];

  static constexpr DType kType = DType::iq2_xxs;
  static constexpr int kElements = 256, kGroup = 32;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.125f;
  using Values = Iq2Values;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    const uint32_t signs = block_dword(qs + 8 * (i / 4) + 4) >> (7 * (i % 4)) & 127u;
    return grid_codes8(kIq2XxsGrid, qs[8 * (i / 4) + i % 4]) | spread_bits(even_signs(signs)) << 2;
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return static_cast<int>(block_dword(qs + 8 * g + 4) >> 28); }
  CRIA_GRID_METHODS
};

/// 16 groups of 16, as above. qs[i]: the index of elements 8i .. 8i + 7 in bits 0-8, seven bits of signs
/// above.
struct BlockIQ2_XS {
  uint16_t d;
  uint16_t qs[32];
  uint8_t scales[8];

  static constexpr DType kType = DType::iq2_xs;
  static constexpr int kElements = 256, kGroup = 16;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.125f;
  using Values = Iq2Values;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    return grid_codes8(kIq2XsGrid, qs[i] & 511u) | spread_bits(even_signs(static_cast<uint32_t>(qs[i] >> 9)))
                                                       << 2;
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return nibble(scales[g / 2], g % 2); }
  CRIA_GRID_METHODS
};

/// 16 groups of 16, as above. Index i: qs[i], and above it bits 2 (i % 4) and the next of qh[i / 4].
struct BlockIQ2_S {
  uint16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];

  static constexpr DType kType = DType::iq2_s;
  static constexpr int kElements = 256, kGroup = 16;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.125f;
  using Values = Iq2Values;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    const int high = qh[i / 4] >> (2 * (i % 4)) & 3;
    return grid_codes8(kIq2SGrid, static_cast<uint32_t>(qs[i] | high << 8)) | spread_bits(signs[i]) << 2;
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return nibble(scales[g / 2], g % 2); }
  CRIA_GRID_METHODS
};

/// 8 groups of 32: (d / 4 * (2 * scale4 + 1)) * value. qs: an index for every four elements; words: signs and
/// scales as in IQ2_XXS.
struct BlockIQ3_XXS {
  uint16_t d;
  uint8_t qs[64];
  uint8_t words[32];

  static constexpr DType kType = DType::iq3_xxs;
  static constexpr int kElements = 256, kGroup = 32;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.25f;
  using Values = Iq3XxsValues;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    const uint32_t signs = block_dword(words + 4 * (i / 4)) >> (7 * (i % 4)) & 127u;
    return grid_codes4(kIq3XxsGrid, qs[2 * i]) | grid_codes4(kIq3XxsGrid, qs[2 * i + 1]) << 32 |
           spread_bits(even_signs(signs)) << 3;
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return static_cast<int>(block_dword(words + 4 * g) >> 28); }
  CRIA_GRID_METHODS
};

/// 8 groups of 32: (d * (2 * scale4 + 1)) * value. Index n of elements 4n .. 4n + 3: qs[n], and bit n % 8 of
/// qh[n / 8] above it.
struct BlockIQ3_S {
  uint16_t d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];

  static constexpr DType kType = DType::iq3_s;
  static constexpr int kElements = 256, kGroup = 32;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 1.0f;
  using Values = Iq3SValues;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint32_t index(int n) const {
    return static_cast<uint32_t>(qs[n] | (qh[n / 8] >> (n % 8) & 1) << 8);
  }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    return grid_codes4(kIq3SGrid, index(2 * i)) | grid_codes4(kIq3SGrid, index(2 * i + 1)) << 32 |
           spread_bits(signs[i]) << 3;
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return nibble(scales[g / 2], g % 2); }
  CRIA_GRID_METHODS
};

/// 8 groups of 32: (d / 8 * (2 * scale4 + 1)) * value. qh[g]: three bits above each of the group's four
/// indices in qs, the scale's three bits, and whether an eighth is subtracted.
struct BlockIQ1_S {
  uint16_t d;
  uint8_t qs[32];
  uint16_t qh[8];

  static constexpr DType kType = DType::iq1_s;
  static constexpr int kElements = 256, kGroup = 32;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.125f;
  using Values = Iq1Values;
  CRIA_BLOCK_METHOD uint16_t half() const { return d; }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    const int group = qh[i / 4], high = group >> (3 * (i % 4)) & 7;
    return grid_codes8(kIq1Grid, static_cast<uint32_t>(qs[i] | high << 8)) |
           (group >> 15 ? 0x0404040404040404ull : 0);
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return qh[g] >> 12 & 7; }
  CRIA_GRID_METHODS
};

/// 16 groups of 16, as IQ1_S. Nibble i of qh: three bits above index i, and whether an eighth is subtracted.
/// scales: of each word four scales of three bits, and above them a nibble of d.
struct BlockIQ1_M {
  uint8_t qs[32];
  uint8_t qh[16];
  uint16_t scales[4];

  static constexpr DType kType = DType::iq1_m;
  static constexpr int kElements = 256, kGroup = 16;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::c4;
  static constexpr float kUnit = 0.125f;
  using Values = Iq1Values;
  CRIA_BLOCK_METHOD uint16_t half() const {
    return static_cast<uint16_t>(scales[0] >> 12 | (scales[1] >> 12) << 4 | (scales[2] >> 12) << 8 |
                                 (scales[3] >> 12) << 12);
  }
  CRIA_BLOCK_METHOD uint64_t codes8(int i) const {
    const int high = nibble(qh[i / 2], i % 2);
    return grid_codes8(kIq1Grid, static_cast<uint32_t>(qs[i] | (high & 7) << 8)) |
           (high >> 3 ? 0x0404040404040404ull : 0);
  }
  CRIA_BLOCK_METHOD int scale4(int g) const { return scales[g / 4] >> (3 * (g % 4)) & 7; }
  CRIA_GRID_METHODS
};

#undef CRIA_GRID_METHODS

}  // namespace cria
