// Weights of 3, 5 and 6 bits as panels hold them (repack.h). A file keeps their low and high bits apart, so
// that unpacking a dword of four weights takes four or five instructions. A panel holds whole weights in the
// low bits of bytes, and the pieces of the remaining ones in the bits above: most dwords take one
// instruction, and two on average. Every 32 columns are eight dwords of values; of n bits they take n dwords,
// a permutation of the file's bits.
//
// V: a level's I32x16, or one lane of it.
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

/// Of the dwords of a panel's block, the first of the weights, after its scales.
template <class Block>
constexpr int kFirstWeightDword = block_shape<Block>().dwords - Block::kElements / 32 * Block::kPanelBits;

/// The dwords of weights of a block, from a file's form to a panel's.
template <class Block, class V>
CRIA_INLINE void pack_bits(const V* file, V* panel) {
  constexpr int kBits = Block::kPanelBits;
  for (int g = 0; g < Block::kElements / 32; g++) {
    V v[8], out[kBits];
    CRIA_UNROLL(8)
    for (int k = 0; k < 8; k++) {
      const BitLayout p = Block::bit_layout(g, k);
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
template <class Block, class V>
CRIA_INLINE void unpack_bits(const V* panel, V* file) {
  constexpr int kBits = Block::kPanelBits, kGroups = Block::kElements / 32;
  for (int i = 0; i < kBits * kGroups; i++) file[i] = panel[0] & 0;
  for (int g = 0; g < kGroups; g++, panel += kBits) {
    for (int k = 0; k < 8; k++) {
      const auto dword = [&](int i) { return panel[i]; };
      V v;
      if constexpr (kBits == 3) v = unpack3(dword, k);
      if constexpr (kBits == 5) v = unpack5(dword, k);
      if constexpr (kBits == 6) v = unpack6(dword, k);
      const BitLayout p = Block::bit_layout(g, k);
      V& low = file[p.low];
      low |= (v & repeat_byte((1 << p.low_bits) - 1)) << p.low_shift;
      V high = (v >> p.low_bits) & repeat_byte((1 << p.high_bits) - 1);
      if (p.scattered) high = (high | (high >> 7) | (high >> 14) | (high >> 21)) & 15;
      file[p.high] |= high << p.high_shift;
    }
  }
}

}  // namespace cria::CRIA_ISA
