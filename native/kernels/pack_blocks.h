// Levels and scales -> the bytes of a block, for every quantizer: the inverse of blocks.h's quant(), scale()
// and min(). A quantizer chooses the numbers; only this header knows where a format keeps their bits.
//
// `q(e)` is the unsigned level of element e: the format's value with its offset added, as in the file.
// `scale(g)` and `min(g)` are the unsigned codes of group g. No STL and only internal linkage, as in
// blocks.h.
#pragma once

#include <stdint.h>

#include "kernels/blocks.h"

#ifdef __CUDACC__
#define CRIA_PACK_FUNCTION static __device__ inline
#else
#define CRIA_PACK_FUNCTION static inline
#endif

namespace cria {

// ---- scales ----

/// The inverse of k4_scales().
template <class Scale, class Min>
CRIA_PACK_FUNCTION void pack_k4_scales(Scale scale, Min min, uint8_t* packed) {
  for (int g = 0; g < 4; g++) {
    packed[g] = static_cast<uint8_t>(scale(g) | scale(g + 4) >> 4 << 6);
    packed[g + 4] = static_cast<uint8_t>(min(g) | min(g + 4) >> 4 << 6);
    packed[g + 8] = static_cast<uint8_t>((scale(g + 4) & 15) | (min(g + 4) & 15) << 4);
  }
}

/// The inverse of q3_k_scale_word(); codes 0..63, with 32 added.
template <class Code>
CRIA_PACK_FUNCTION void pack_q3_k_scales(Code code, uint8_t* packed) {
  for (int g = 0; g < 8; g++) packed[g] = static_cast<uint8_t>((code(g) & 15) | (code(g + 8) & 15) << 4);
  for (int g = 0; g < 4; g++)
    packed[8 + g] = static_cast<uint8_t>(code(g) >> 4 | code(g + 4) >> 4 << 2 | code(g + 8) >> 4 << 4 |
                                         code(g + 12) >> 4 << 6);
}

/// The inverse of iq4_xs_scale(); codes 0..63, with 32 added.
template <class Code>
CRIA_PACK_FUNCTION void pack_iq4_xs_scales(Code code, BlockIQ4_XS& b) {
  int high = 0;
  for (int g = 0; g < 8; g++) high |= code(g) >> 4 << 2 * g;
  b.scales_h = static_cast<uint16_t>(high);
  for (int i = 0; i < 4; i++)
    b.scales_l[i] = static_cast<uint8_t>((code(2 * i) & 15) | (code(2 * i + 1) & 15) << 4);
}

// ---- levels ----

/// Two nibbles a byte: values j and j + 16 of 32.
template <class Quant>
CRIA_PACK_FUNCTION void pack_nibbles(Quant q, uint8_t* qs) {
  for (int j = 0; j < 16; j++) qs[j] = static_cast<uint8_t>((q(j) & 15) | (q(j + 16) & 15) << 4);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_fifth_bits(Quant q, uint8_t* qh) {
  for (int byte = 0; byte < 4; byte++) {
    int bits = 0;
    for (int j = 0; j < 8; j++) bits |= (q(8 * byte + j) >> 4 & 1) << j;
    qh[byte] = static_cast<uint8_t>(bits);
  }
}
/// The low two bits of 256 levels, four a byte: Q2_K and Q3_K.
template <class Quant>
CRIA_PACK_FUNCTION void pack_pairs(Quant q, uint8_t* qs) {
  for (int i = 0; i < 64; i++) {
    int byte = 0;
    for (int k = 0; k < 4; k++) byte |= (q(128 * (i / 32) + 32 * k + i % 32) & 3) << 2 * k;
    qs[i] = static_cast<uint8_t>(byte);
  }
}
/// The low nibbles of 256 levels: Q4_K and Q5_K.
template <class Quant>
CRIA_PACK_FUNCTION void pack_k_nibbles(Quant q, uint8_t* qs) {
  for (int i = 0; i < 128; i++) {
    const int e = 64 * (i / 32) + i % 32;
    qs[i] = static_cast<uint8_t>((q(e) & 15) | (q(e + 32) & 15) << 4);
  }
}
/// Bit `bit` of the eight levels 32 k + i, in byte i: Q3_K and Q5_K.
template <class Quant>
CRIA_PACK_FUNCTION void pack_high_bits(Quant q, int bit, uint8_t* bytes) {
  for (int i = 0; i < 32; i++) {
    int byte = 0;
    for (int k = 0; k < 8; k++) byte |= (q(32 * k + i) >> bit & 1) << k;
    bytes[i] = static_cast<uint8_t>(byte);
  }
}

// ---- by format ----

template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ4_0& b) {
  pack_nibbles(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ4_1& b) {
  pack_nibbles(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockIQ4_NL& b) {
  pack_nibbles(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ5_0& b) {
  pack_nibbles(q, b.qs);
  pack_fifth_bits(q, b.qh);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ5_1& b) {
  pack_nibbles(q, b.qs);
  pack_fifth_bits(q, b.qh);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ2_K& b) {
  pack_pairs(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ3_K& b) {
  pack_pairs(q, b.qs);
  pack_high_bits(q, 2, b.hmask);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ4_K& b) {
  pack_k_nibbles(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ5_K& b) {
  pack_k_nibbles(q, b.qs);
  pack_high_bits(q, 4, b.qh);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ6_K& b) {
  for (int i = 0; i < 128; i++) {
    const int e = 128 * (i / 64) + i % 64;
    b.ql[i] = static_cast<uint8_t>((q(e) & 15) | (q(e + 64) & 15) << 4);
  }
  for (int i = 0; i < 64; i++) {
    int byte = 0;
    for (int k = 0; k < 4; k++) byte |= q(128 * (i / 32) + 32 * k + i % 32) >> 4 << 2 * k;
    b.qh[i] = static_cast<uint8_t>(byte);
  }
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockIQ4_XS& b) {
  for (int g = 0; g < 8; g++) pack_nibbles([&](int j) { return q(32 * g + j); }, b.qs + 16 * g);
}

// ---- few levels ----

template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockTQ2_0& b) {
  pack_pairs(q, b.qs);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ2_0& b) {
  for (int i = 0; i < 16; i++)
    b.qs[i] = static_cast<uint8_t>(q(4 * i) | q(4 * i + 1) << 2 | q(4 * i + 2) << 4 | q(4 * i + 3) << 6);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockQ1_0& b) {
  for (int i = 0; i < 16; i++) {
    int byte = 0;
    for (int j = 0; j < 8; j++) byte |= q(8 * i + j) << j;
    b.qs[i] = static_cast<uint8_t>(byte);
  }
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockMXFP4& b) {
  pack_nibbles(q, b.qs);
}

/// Five base-3 digits as a fraction of 256, rounded up, so that BlockTQ1_0::digit() finds them.
template <class Digit>
CRIA_PACK_FUNCTION uint8_t pack_digits(Digit digit) {
  int value = 0;
  for (int n = 0; n < 5; n++) value = 3 * value + digit(n);
  return static_cast<uint8_t>((256 * value + 242) / 243);
}
template <class Quant>
CRIA_PACK_FUNCTION void pack_levels(Quant q, BlockTQ1_0& b) {
  for (int i = 0; i < 32; i++) b.qs[i] = pack_digits([&](int n) { return q(32 * n + i); });
  for (int i = 0; i < 16; i++) b.qs[32 + i] = pack_digits([&](int n) { return q(160 + 16 * n + i); });
  for (int i = 0; i < 4; i++) b.qh[i] = pack_digits([&](int n) { return n < 4 ? q(240 + 4 * n + i) : 0; });
}

}  // namespace cria
