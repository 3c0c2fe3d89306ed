// Points of grids, signs and scales -> the bytes of an i-quant's block: the inverse of codes8() and scale4()
// of blocks_iq.h. Codes of scales are those of scale4(). No STL and only internal linkage, as in blocks.h.
#pragma once

#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/pack_blocks.h"

namespace cria {

/// The word of IQ2_XXS and IQ3_XXS: four times seven bits of signs, and a scale above.
CRIA_PACK_FUNCTION void pack_signs_and_scale(const uint8_t* signs, int code, uint8_t* to) {
  uint32_t word = static_cast<uint32_t>(code) << 28;
  for (int k = 0; k < 4; k++) word |= (signs[k] & 127u) << 7 * k;
  __builtin_memcpy(to, &word, 4);
}
/// Sixteen codes of four bits.
CRIA_PACK_FUNCTION void pack_scale_nibbles(const int* code, int n, uint8_t* to) {
  for (int i = 0; i < n / 2; i++) to[i] = static_cast<uint8_t>(code[2 * i] | code[2 * i + 1] << 4);
}

CRIA_PACK_FUNCTION void pack_points(BlockIQ2_XXS& b, const int* index, const uint8_t* signs,
                                    const int* code) {
  for (int g = 0; g < 8; g++) {
    for (int k = 0; k < 4; k++) b.qs[8 * g + k] = static_cast<uint8_t>(index[4 * g + k]);
    pack_signs_and_scale(signs + 4 * g, code[g], b.qs + 8 * g + 4);
  }
}
CRIA_PACK_FUNCTION void pack_points(BlockIQ2_XS& b, const int* index, const uint8_t* signs, const int* code) {
  for (int i = 0; i < 32; i++) b.qs[i] = static_cast<uint16_t>(index[i] | (signs[i] & 127) << 9);
  pack_scale_nibbles(code, 16, b.scales);
}
CRIA_PACK_FUNCTION void pack_points(BlockIQ2_S& b, const int* index, const uint8_t* signs, const int* code) {
  for (int i = 0; i < 32; i++) {
    b.qs[i] = static_cast<uint8_t>(index[i]);
    b.signs[i] = signs[i];
    b.qh[i / 4] = static_cast<uint8_t>(b.qh[i / 4] | index[i] >> 8 << 2 * (i % 4));
  }
  pack_scale_nibbles(code, 16, b.scales);
}
CRIA_PACK_FUNCTION void pack_points(BlockIQ3_XXS& b, const int* index, const uint8_t* signs,
                                    const int* code) {
  for (int i = 0; i < 64; i++) b.qs[i] = static_cast<uint8_t>(index[i]);
  for (int g = 0; g < 8; g++) pack_signs_and_scale(signs + 4 * g, code[g], b.words + 4 * g);
}
CRIA_PACK_FUNCTION void pack_points(BlockIQ3_S& b, const int* index, const uint8_t* signs, const int* code) {
  for (int i = 0; i < 64; i++) {
    b.qs[i] = static_cast<uint8_t>(index[i]);
    b.qh[i / 8] = static_cast<uint8_t>(b.qh[i / 8] | index[i] >> 8 << i % 8);
  }
  for (int i = 0; i < 32; i++) b.signs[i] = signs[i];
  pack_scale_nibbles(code, 8, b.scales);
}

/// shift: whether an eighth is subtracted, by vector; the same for the four of a group.
CRIA_PACK_FUNCTION void pack_points(BlockIQ1_S& b, const int* index, const int* shift, const int* code) {
  for (int g = 0; g < 8; g++) {
    int word = code[g] << 12 | shift[4 * g] << 15;
    for (int k = 0; k < 4; k++) {
      b.qs[4 * g + k] = static_cast<uint8_t>(index[4 * g + k]);
      word |= index[4 * g + k] >> 8 << 3 * k;
    }
    b.qh[g] = static_cast<uint16_t>(word);
  }
}
CRIA_PACK_FUNCTION void pack_points(BlockIQ1_M& b, const int* index, const int* shift, const int* code,
                                    uint16_t half) {
  for (int i = 0; i < 32; i++) {
    b.qs[i] = static_cast<uint8_t>(index[i]);
    b.qh[i / 2] = static_cast<uint8_t>(b.qh[i / 2] | (index[i] >> 8 | shift[i] << 3) << 4 * (i % 2));
  }
  for (int i = 0; i < 4; i++) {
    int word = (half >> 4 * i & 15) << 12;
    for (int k = 0; k < 4; k++) word |= code[4 * i + k] << 3 * k;
    b.scales[i] = static_cast<uint16_t>(word);
  }
}

}  // namespace cria
