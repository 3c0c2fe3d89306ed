// Every block format as a plain struct, exactly as it lies in a GGUF file (little endian, no padding).
// Source: the block formats of GGML ("ggml-common.h") as the GGUF specification names them.
//
// Notation below: element e of the block; `d`, `m`, `dmin`, `s` are binary16 bits unless said otherwise. A
// format's value is written with the order of float operations that dequantize_row() uses; integers become
// float32 first.
//
// No STL and only internal linkage: this header is compiled once per instruction set (see cmake/isa.cmake).
#pragma once

#include <stdint.h>

namespace cria {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "block formats are read in place");

static constexpr int kBlockSize = 32;        // elements of a Q4_0 ... Q8_1 or IQ4_NL block
static constexpr int kSuperBlockSize = 256;  // elements of a k-quant or IQ4_XS block

// ---- blocks of 32
// ----------------------------------------------------------------------------------------------

/// d * (q - 8). qs[j]: element j in bits 0-3, element j + 16 in bits 4-7.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};

/// d * q + m. qs as in Q4_0.
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];
};

/// d * (q - 16). Low four bits as in Q4_0; bit e of the little-endian word qh is bit 4 of element e.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};

/// d * q + m. q as in Q5_0.
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qh[4];
  uint8_t qs[16];
};

/// d * q. Weights and activations.
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};

/// Activations only: Q8_0 and s = binary16(d * sum of qs), where d is the scale before its rounding to
/// binary16.
struct BlockQ8_1 {
  uint16_t d;
  uint16_t s;
  int8_t qs[32];
};

/// d * kIq4Values[q]. qs as in Q4_0.
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];
};

// ---- super-blocks of 256
// ---------------------------------------------------------------------------------------

/// 16 groups of 16: (d * scale) * q - dmin * min. scales[g]: scale in bits 0-3, min in bits 4-7.
/// Element e, two bits: byte 32*(e/128) + e%32 of qs, bits 2k and 2k+1 with k = (e%128)/32.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;
};

/// 16 groups of 16: (d * (scale - 32)) * (q - 4). Low two bits of q as in Q2_K; bit 2 of q is bit e/32 of
/// hmask[e%32]. The 16 six-bit scales: see q3_k_scales().
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};

/// 8 groups of 32: (d * scale) * q - dmin * min. Element e: byte 32*(e/64) + e%32 of qs, low nibble when
/// (e/32) is even. The 8 six-bit scales and mins: see k4_scales().
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};

/// As Q4_K with five bits: bit 4 of element e is bit e/32 of qh[e%32].
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};

/// 16 groups of 16: (d * scale) * (q - 32). With h = e/128, k = (e%128)/32, i = e%32:
/// low four bits in byte 64*h + 32*(k%2) + i of ql (high nibble when k >= 2), upper two in bits 2k, 2k+1 of
/// qh[32*h + i].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};

/// Activations only: d * q, d a float32; bsums[g] is the sum of qs[16g .. 16g+15].
struct BlockQ8_K {
  float d;
  int8_t qs[256];
  int16_t bsums[16];
};

/// 8 groups of 32: (d * (scale - 32)) * kIq4Values[q]. Group g: qs[16g + j] holds its elements j (bits 0-3)
/// and j + 16 (bits 4-7). The six-bit scales: see iq4_xs_scale().
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ8_1) == 36);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210 && sizeof(BlockQ8_K) == 292);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);

// ---- packed parts
// ----------------------------------------------------------------------------------------------

/// The sixteen values of IQ4_NL and IQ4_XS.
alignas(16) static constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

/// The six-bit scales and mins of Q4_K and Q5_K, each 0..63. For group g < 4 they are the low six bits of
/// bytes g and g + 4; for g >= 4 byte g + 4 holds the low nibbles (scale low, min high) and the top two bits
/// of bytes g - 4 (scale) and g (min) are their upper two bits.
static inline void k4_scales(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]) {
  uint32_t w[3];
  __builtin_memcpy(w, packed, 12);
  const uint32_t s[2] = {w[0] & 0x3f3f3f3fu, (w[2] & 0x0f0f0f0fu) | ((w[0] >> 2) & 0x30303030u)};
  const uint32_t m[2] = {w[1] & 0x3f3f3f3fu, ((w[2] >> 4) & 0x0f0f0f0fu) | ((w[1] >> 2) & 0x30303030u)};
  __builtin_memcpy(scales, s, 8);
  __builtin_memcpy(mins, m, 8);
}

/// The sixteen six-bit scales of Q3_K with their offset taken off, each -32..31. Scale g: its low nibble is
/// in byte g%8 (high nibble of the byte when g >= 8), its upper two bits are bits 2*(g/4), 2*(g/4)+1 of byte
/// 8 + g%4.
static inline void q3_k_scales(const uint8_t packed[12], int8_t scales[16]) {
  uint32_t w[3];
  __builtin_memcpy(w, packed, 12);
  const uint32_t low = 0x0f0f0f0fu, high = 0x30303030u;
  const uint32_t s[4] = {
      (w[0] & low) | ((w[2] << 4) & high),
      (w[1] & low) | ((w[2] << 2) & high),
      ((w[0] >> 4) & low) | (w[2] & high),
      ((w[1] >> 4) & low) | ((w[2] >> 2) & high),
  };
  __builtin_memcpy(scales, s, 16);
  for (int g = 0; g < 16; g++) scales[g] = static_cast<int8_t>(scales[g] - 32);
}

/// The six-bit scale of IQ4_XS's group g with its offset taken off, -32..31: nibble g of scales_l, bits 2g of
/// scales_h.
static inline int iq4_xs_scale(const BlockIQ4_XS& block, int g) {
  const int low = (block.scales_l[g / 2] >> (4 * (g % 2))) & 15;
  const int high = (block.scales_h >> (2 * g)) & 3;
  return (low | (high << 4)) - 32;
}

/// The 32 fifth bits of Q5_0 and Q5_1.
static inline uint32_t q5_high_bits(const uint8_t qh[4]) {
  uint32_t bits;
  __builtin_memcpy(&bits, qh, 4);
  return bits;
}

}  // namespace cria
