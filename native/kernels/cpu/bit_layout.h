// Weights of 3, 5 and 6 bits as panels hold them (repack.h). A file keeps their low and their high bits
// apart, which costs a product four or five instructions for every dword of four weights. A panel has whole
// weights instead, in the low bits of bytes, whose upper bits hold the pieces of the remaining ones: most
// weights take one instruction then, and all about two. Of every 32 columns, eight dwords of values, n bits
// take n dwords; nothing is lost, and nothing added.
//
// Written for any type V of lanes that are int32: a level's I32x16, or a single one.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

/// The byte four times.
constexpr uint32_t repeat_byte(int byte) { return 0x01010101u * static_cast<uint32_t>(byte); }

// ---- a panel's form ----
//
// unpack_n(dword, k): value k of 32 columns, four to a dword, whose n dwords are dword(0) .. dword(n - 1).

template <class Dword>
CRIA_INLINE auto unpack3(Dword dword, int k) {
  if (k < 3) return dword(k) & 0x07070707;
  if (k < 6) return (dword(k - 3) >> 3) & 0x07070707;
  return ((dword(k - 6) >> 6) & 0x03030303) | ((dword(2) >> (k == 6 ? 4 : 5)) & 0x04040404);
}
template <class V>
CRIA_INLINE void pack3(const V v[8], V out[3]) {
  CRIA_UNROLL(3)
  for (int i = 0; i < 3; i++) out[i] = v[i] | (v[3 + i] << 3);
  CRIA_UNROLL(2)
  for (int i = 0; i < 2; i++) out[i] |= (v[6 + i] << 6) & 0xc0c0c0c0;
  out[2] |= ((v[6] << 4) & 0x40404040) | ((v[7] << 5) & 0x80808080);
}

template <class Dword>
CRIA_INLINE auto unpack5(Dword dword, int k) {
  if (k < 5) return dword(k) & 0x1f1f1f1f;
  const auto low = (dword(k - 5) >> 5) & 0x07070707;
  if (k < 7) return low | ((dword(k - 2) >> 3) & 0x18181818);
  return low | ((dword(3) >> 2) & 0x08080808) | ((dword(4) >> 1) & 0x10101010);
}
template <class V>
CRIA_INLINE void pack5(const V v[8], V out[5]) {
  CRIA_UNROLL(3)
  for (int i = 0; i < 3; i++) out[i] = v[i] | ((v[5 + i] << 5) & 0xe0e0e0e0);
  CRIA_UNROLL(2)
  for (int i = 3; i < 5; i++) out[i] = v[i] | ((v[2 + i] << 3) & 0xc0c0c0c0);
  out[3] |= (v[7] << 2) & 0x20202020;
  out[4] |= (v[7] << 1) & 0x20202020;
}

// Two of three dwords each.
template <class Dword>
CRIA_INLINE auto unpack6(Dword dword, int k) {
  const int first = k < 4 ? 0 : 3;
  k %= 4;
  if (k < 3) return dword(first + k) & 0x3f3f3f3f;
  return ((dword(first) >> 6) & 0x03030303) | ((dword(first + 1) >> 4) & 0x0c0c0c0c) |
         ((dword(first + 2) >> 2) & 0x30303030);
}
template <class V>
CRIA_INLINE void pack6(const V v[8], V out[6]) {
  for (int i = 0; i < 6; i++)
    out[i] = v[i + i / 3] | (((i < 3 ? v[3] : v[7]) << (6 - 2 * (i % 3))) & 0xc0c0c0c0);
}

// ---- a file's form ----

/// Where the two parts of value k of a format's group of 32 columns stand in the block's dwords of weights.
struct BitLayout {
  int low, low_shift, low_bits;
  int high, high_shift, high_bits;
  bool scattered;  // the four bytes' single high bits follow each other
};
constexpr BitLayout bit_layout(DType dtype, int group, int k) {
  const int half = group / 4, quarter = group % 4;
  switch (dtype) {
    case DType::q3_k: return {8 + 8 * half + k, 2 * quarter, 2, k, group, 1, false};
    case DType::q5_k: return {8 + 8 * (group / 2) + k, 4 * (group % 2), 4, k, group, 1, false};
    case DType::q6_k:
      return {
          16 * half + 8 * (quarter % 2) + k, 4 * (quarter / 2), 4, 32 + 8 * half + k, 2 * quarter, 2, false};
    default: return {1 + k % 4, 4 * (k / 4), 4, 0, 4 * k, 1, true};  // Q5_0, Q5_1
  }
}

/// Bits of a weight; 0 for the formats whose weights a panel keeps as the file does.
constexpr int repacked_bits(DType dtype) {
  switch (dtype) {
    case DType::q3_k: return 3;
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k: return 5;
    case DType::q6_k: return 6;
    default: return 0;
  }
}

/// The first of the dwords of weights in a panel's block, after its scales.
constexpr int first_weight_dword(DType dtype) {
  return block_shape(dtype).dwords - block_shape(dtype).cols / 32 * repacked_bits(dtype);
}

/// The dwords of weights of a block, from a file's form to a panel's.
template <DType kType, class V>
CRIA_INLINE void pack_bits(const V* file, V* panel) {
  constexpr int kBits = repacked_bits(kType);
  for (int g = 0; g < block_shape(kType).cols / 32; g++) {
    V v[8], out[kBits];
    CRIA_UNROLL(8)
    for (int k = 0; k < 8; k++) {
      const BitLayout p = bit_layout(kType, g, k);
      const V low = (file[p.low] >> p.low_shift) & repeat_byte((1 << p.low_bits) - 1);
      V high = file[p.high] >> p.high_shift;
      if (p.scattered) {
        high = high & 15;
        high = high | (high << 7) | (high << 14) | (high << 21);
      }
      v[k] = low | ((high << p.low_bits) & repeat_byte(((1 << p.high_bits) - 1) << p.low_bits));
    }
    if constexpr (kBits == 3) pack3(v, out);
    if constexpr (kBits == 5) pack5(v, out);
    if constexpr (kBits == 6) pack6(v, out);
    CRIA_UNROLL(8)
    for (int i = 0; i < kBits; i++) panel[kBits * g + i] = out[i];
  }
}

/// And back; all of `file` is written.
template <DType kType, class V>
CRIA_INLINE void unpack_bits(const V* panel, V* file) {
  constexpr int kBits = repacked_bits(kType), kGroups = block_shape(kType).cols / 32;
  for (int i = 0; i < kBits * kGroups; i++) file[i] = panel[0] & 0;
  for (int g = 0; g < kGroups; g++, panel += kBits) {
    for (int k = 0; k < 8; k++) {
      const auto dword = [&](int i) { return panel[i]; };
      V v;
      if constexpr (kBits == 3) v = unpack3(dword, k);
      if constexpr (kBits == 5) v = unpack5(dword, k);
      if constexpr (kBits == 6) v = unpack6(dword, k);
      const BitLayout p = bit_layout(kType, g, k);
      V& low = file[p.low];
      low |= (v & repeat_byte((1 << p.low_bits) - 1)) << p.low_shift;
      V high = (v >> p.low_bits) & repeat_byte((1 << p.high_bits) - 1);
      if (p.scattered) high = (high | (high >> 7) | (high >> 14) | (high >> 21)) & 15;
      file[p.high] |= high << p.high_shift;
    }
  }
}

}  // namespace cria::CRIA_ISA
