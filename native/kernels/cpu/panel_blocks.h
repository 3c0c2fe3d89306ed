// What the CPU's panels hold of each format's blocks (repack.h). Most formats: the block itself. Formats with
// grids become codes of three or four bits, which a vector instruction looks up; ternary ones two bits; and
// where a file packs neighbours into a byte, their bits are spread over the bytes of a dword.
//
// A panel's block states what blocks.h lists, for reading single rows.
#pragma once

#include "kernels/blocks.h"

namespace cria {

/// Weights of three bits, as bit_layout.h has them in panels: eight dwords of four become three.
CRIA_BLOCK_FUNCTION void pack_codes3(const uint32_t v[8], uint8_t* to) {
  uint32_t out[3];
  for (int i = 0; i < 3; i++) out[i] = v[i] | v[3 + i] << 3;
  for (int i = 0; i < 2; i++) out[i] |= (v[6 + i] & 0x03030303u) << 6;
  out[2] |= (v[6] & 0x04040404u) << 4 | (v[7] & 0x04040404u) << 5;
  __builtin_memcpy(to, out, sizeof out);
}
/// Value i of 32.
CRIA_BLOCK_FUNCTION int code3_at(const uint8_t* from, int i) {
  const int k = i / 4, byte = i % 4;
  if (k < 3) return from[4 * k + byte] & 7;
  if (k < 6) return from[4 * (k - 3) + byte] >> 3 & 7;
  return from[4 * (k - 6) + byte] >> 6 | (from[8 + byte] >> (k == 6 ? 6 : 7) & 1) << 2;
}

/// IQ1 and IQ2: d / 8, sixteen scales of four bits, and of every 32 columns three dwords of codes.
template <class Book>
struct PanelCodes3 {
  uint16_t d;
  uint8_t scales[8];
  uint8_t qs[96];

  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr float kUnit = 0.125f;
  using Values = Book;
  template <class Machine>
  float block_scale() const {
    return Machine::from_f16(d) * kUnit;
  }
  int scale(int g) const { return 2 * nibble(scales[g / 2], g % 2) + 1; }
  int quant(int s, int j) const { return Book::at(code3_at(qs + 12 * (s / 2), 16 * (s % 2) + j)); }

  template <class Block>
  static void from(const Block& b, PanelCodes3& to) {
    static_assert(Block::kUnit == kUnit);
    to.d = b.half();
    constexpr int kParts = 16 / (Block::kElements / Block::kGroup);
    for (int g = 0; g < 16; g += 2)
      to.scales[g / 2] = static_cast<uint8_t>(b.scale4(g / kParts) | b.scale4((g + 1) / kParts) << 4);
    for (int g = 0; g < 8; g++) {
      uint32_t v[8];
      for (int i = 0; i < 4; i++) {
        const uint64_t codes = b.codes8(4 * g + i);
        v[2 * i] = static_cast<uint32_t>(codes);
        v[2 * i + 1] = static_cast<uint32_t>(codes >> 32);
      }
      pack_codes3(v, to.qs + 12 * g);
    }
  }
};

/// IQ3: d, eight scales of four bits, and codes of four bits: of every 32 columns qs[16g + j] holds columns j
/// (in bits 0-3) and j + 16.
template <class Source>
struct PanelCodes4 {
  uint16_t d;
  uint8_t scales[4];
  uint8_t qs[128];

  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr float kUnit = Source::kUnit;
  using Values = typename Source::Values;
  template <class Machine>
  float block_scale() const {
    return Machine::from_f16(d) * kUnit;
  }
  int scale(int g) const { return 2 * nibble(scales[g / 2], g % 2) + 1; }
  int quant(int s, int j) const { return Values::at(nibble(qs[16 * (s / 2) + j], s % 2)); }

  static void from(const Source& b, PanelCodes4& to) {
    to.d = b.d;
    for (int g = 0; g < 8; g += 2)
      to.scales[g / 2] = static_cast<uint8_t>(b.scale4(g) | b.scale4(g + 1) << 4);
    for (int g = 0; g < 8; g++)
      for (int i = 0; i < 2; i++) {
        const uint64_t both = b.codes8(4 * g + i) | b.codes8(4 * g + 2 + i) << 4;
        __builtin_memcpy(to.qs + 16 * g + 8 * i, &both, 8);
      }
  }
};

/// MXFP4: the scale as a bfloat16, which holds it exactly.
struct PanelMXFP4 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  using Values = Fp4Values;
  template <class Machine>
  float block_scale() const {
    return block_float(static_cast<uint32_t>(d) << 16);
  }
  int quant(int s, int j) const { return Values::at(nibble(qs[j], s)); }

  static void from(const BlockMXFP4& b, PanelMXFP4& to) {
    to.d = static_cast<uint16_t>(b.scale_bits() >> 16);
    __builtin_memcpy(to.qs, b.qs, sizeof to.qs);
  }
};

/// NVFP4: as in a file, with seven bits a scale, all of them numbers.
struct PanelNVFP4 : BlockNVFP4 {
  static constexpr int kHeaderDword = 0, kPanelBits = 0;

  static void from(const BlockNVFP4& b, PanelNVFP4& to) {
    for (int g = 0; g < 4; g++)
      to.scales[g] = static_cast<uint8_t>(b.scales[g] == 0x7f ? 0 : b.scales[g] & 0x7f);
    __builtin_memcpy(to.qs, b.qs, sizeof to.qs);
  }
  // 0x7f is 480 here: a file's 0xff.
  int scale(int g) const { return scales[g] == 0x7f ? 15 << 14 : ue4m3_multiple(scales[g]); }
};

/// Q1_0: of every 32 columns a dword, with column 4k + j at bit 8j + k.
struct PanelQ1_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr int kElements = 128, kGroup = 128, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  int quant(int s, int j) const {
    const int k = (16 * (s % 2) + j) / 4;
    return 2 * (qs[4 * (s / 2) + j % 4] >> k & 1) - 1;
  }

  static void from(const BlockQ1_0& b, PanelQ1_0& to) {
    to.d = b.d;
    for (int g = 0; g < 4; g++) {
      uint32_t spread = 0;
      const uint32_t bits = block_dword(b.qs + 4 * g);
      for (int k = 0; k < 8; k++) {
        const uint32_t four = bits >> (4 * k) & 15u;
        spread |= ((four | four << 7 | four << 14 | four << 21) & 0x01010101u) << k;
      }
      __builtin_memcpy(to.qs + 4 * g, &spread, 4);
    }
  }
};

/// Q2_0: of every 16 columns a dword, with column 4k + j at bit 8j + 2k.
struct PanelQ2_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr int kElements = 64, kGroup = 64, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  int quant(int s, int j) const { return (qs[4 * s + j % 4] >> (2 * (j / 4)) & 3) - 1; }

  // Transposes 4 x 4 pairs of bits.
  static void from(const BlockQ2_0& b, PanelQ2_0& to) {
    to.d = b.d;
    for (int s = 0; s < 4; s++) {
      uint32_t v = block_dword(b.qs + 4 * s), t = (v ^ v >> 6) & 0x00cc00ccu;
      v ^= t ^ t << 6;
      t = (v ^ v >> 12) & 0x0000f0f0u;
      v ^= t ^ t << 12;
      __builtin_memcpy(to.qs + 4 * s, &v, 4);
    }
  }
};

/// TQ1_0 and TQ2_0: as TQ2_0 in a file.
struct PanelTernary : BlockTQ2_0 {
  static void from(const BlockTQ1_0& b, PanelTernary& to) {
    to.d = b.d;
    for (int i = 0; i < 64; i++) {
      int byte = 0;
      for (int k = 0; k < 4; k++) byte |= b.code(128 * (i / 32) + 32 * k + i % 32) << (2 * k);
      to.qs[i] = static_cast<uint8_t>(byte);
    }
  }
};

template <class Block>
struct PanelBlockOf {
  using Type = Block;
};
template <>
struct PanelBlockOf<BlockIQ1_S> {
  using Type = PanelCodes3<Iq1Values>;
};
template <>
struct PanelBlockOf<BlockIQ1_M> {
  using Type = PanelCodes3<Iq1Values>;
};
template <>
struct PanelBlockOf<BlockIQ2_XXS> {
  using Type = PanelCodes3<Iq2Values>;
};
template <>
struct PanelBlockOf<BlockIQ2_XS> {
  using Type = PanelCodes3<Iq2Values>;
};
template <>
struct PanelBlockOf<BlockIQ2_S> {
  using Type = PanelCodes3<Iq2Values>;
};
template <>
struct PanelBlockOf<BlockIQ3_XXS> {
  using Type = PanelCodes4<BlockIQ3_XXS>;
};
template <>
struct PanelBlockOf<BlockIQ3_S> {
  using Type = PanelCodes4<BlockIQ3_S>;
};
template <>
struct PanelBlockOf<BlockTQ1_0> {
  using Type = PanelTernary;
};
template <>
struct PanelBlockOf<BlockTQ2_0> {
  using Type = PanelTernary;
};
template <>
struct PanelBlockOf<BlockMXFP4> {
  using Type = PanelMXFP4;
};
template <>
struct PanelBlockOf<BlockNVFP4> {
  using Type = PanelNVFP4;
};
template <>
struct PanelBlockOf<BlockQ1_0> {
  using Type = PanelQ1_0;
};
template <>
struct PanelBlockOf<BlockQ2_0> {
  using Type = PanelQ2_0;
};

/// What a panel holds of a format's block.
template <class Block>
using PanelBlock = typename PanelBlockOf<Block>::Type;

}  // namespace cria
