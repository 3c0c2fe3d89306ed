// Rows of quantized weights -> panels: unsigned bytes with rows in lanes, and their scales. Compiled per
// level.
//
// A turn (transpose16) moves dwords only, so bytes that hold several quants are turned as they are and taken
// apart afterwards: half the shuffles.
#pragma once

#include "kernels/cpu/matmul_tiles.h"

namespace cria::CRIA_ISA {

constexpr int kPanelRows = 32, kPanelBlocks = 64;

/// Four columns of 32 rows: [row * 4 + column % 4].
using PanelStep = uint8_t[4 * kPanelRows];

/// What the unsigned bytes have too much: signs are flipped, which adds 128.
template <class F>
constexpr int kUnsignedOffset = F::kSigned ? 128 : F::kOffset;

/// Whether a panel keeps the format's nibbles in pairs.
template <class F>
constexpr bool kPanelNibbles = false;
template <>
constexpr bool kPanelNibbles<FormatQ4_K> = true;

/// 32 rows of a block of 32 columns; up to kPanelBlocks of them lie together.
struct Panel32 {
  PanelStep q[8];  // [column / 4]
  float d[kPanelRows];
  float m[kPanelRows];  // formats with a minimum
};

/// 32 rows of a super-block of 256 columns, with scales of groups of 32, or of 16 when kGroups is 16.
template <int kGroups>
struct Panel256 {
  PanelStep q[8][8];  // [group of 32][column % 32 / 4]; nibbles: [pair of groups of 32][column % 32 / 4]
  int32_t scale[kGroups][kPanelRows];
  int16_t min[kGroups / 2][kPanelRows]
             [2];  // by twos, as they meet the activations' sums; formats with a minimum
  float d[kPanelRows];
  float minus_dmin[kPanelRows];
};

/// The rows of a panel. Those beyond the last repeat it; their results are not stored.
struct RowPointers {
  const uint8_t* row[kPanelRows];
};

CRIA_INLINE __m512i two_halves(const void* low32, const void* high32) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(low32))),
                            _mm256_loadu_si256(static_cast<const __m256i*>(high32)), 1);
}
CRIA_INLINE __m512i four_quarters(const void* a, const void* b, const void* c, const void* d) {
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(static_cast<const __m128i*>(a)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(static_cast<const __m128i*>(b)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(static_cast<const __m128i*>(c)), 2);
  return _mm512_inserti32x4(v, _mm_loadu_si128(static_cast<const __m128i*>(d)), 3);
}
CRIA_INLINE __m512i keep(__m512i v, uint8_t mask) {
  return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(mask)));
}
/// n bits to the right, or to the left where n is negative, and what `mask` keeps of each byte.
CRIA_INLINE __m512i shifted(__m512i v, int n, uint8_t mask) {
  return keep(n < 0 ? _mm512_slli_epi16(v, static_cast<unsigned>(-n))
                    : _mm512_srli_epi16(v, static_cast<unsigned>(n)),
              mask);
}
CRIA_INLINE __m512i flip_signs(__m512i bytes) {
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(0x80)));
}

// r[i]: 16 dwords of row i -> r[k]: dword k of 16 rows.
CRIA_INLINE void transpose16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 2; j++) {
      r[4 * i + 2 * j] = _mm512_unpacklo_epi64(t[4 * i + j], t[4 * i + 2 + j]);
      r[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(t[4 * i + j], t[4 * i + 2 + j]);
    }
  }
  for (int i = 0; i < 4; i++) {
    for (int h = 0; h < 2; h++) {
      t[8 * h + i] = _mm512_shuffle_i32x4(r[8 * h + i], r[8 * h + i + 4], 0x88);
      t[8 * h + i + 4] = _mm512_shuffle_i32x4(r[8 * h + i], r[8 * h + i + 4], 0xdd);
    }
  }
  for (int i = 0; i < 8; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

/// 16 bytes of each of 16 rows, those of row i at at(i) -> r[k]: their dword k, rows in lanes. For
/// 64 bytes that lie together transpose16 is faster.
template <class At>
CRIA_INLINE void turn(At at, __m512i r[4]) {
  __m512i h[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) h[j] = four_quarters(at(j), at(4 + j), at(8 + j), at(12 + j));
  const __m512i low01 = _mm512_unpacklo_epi32(h[0], h[1]), low23 = _mm512_unpacklo_epi32(h[2], h[3]);
  const __m512i high01 = _mm512_unpackhi_epi32(h[0], h[1]), high23 = _mm512_unpackhi_epi32(h[2], h[3]);
  r[0] = _mm512_unpacklo_epi64(low01, low23);
  r[1] = _mm512_unpackhi_epi64(low01, low23);
  r[2] = _mm512_unpacklo_epi64(high01, high23);
  r[3] = _mm512_unpackhi_epi64(high01, high23);
}

// ---- blocks of 32 ----

/// A turned register of nibbles as the format's values, made unsigned.
template <class F>
CRIA_INLINE __m512i nibble_values(__m512i nibbles) {
  if constexpr (!F::kSigned) return nibbles;
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(kIq4Values));
  return _mm512_shuffle_epi8(flip_signs(_mm512_broadcast_i32x4(values)), nibbles);
}

/// Adds 16 where bits 4 step .. 4 step + 3 of a row's dword are set.
CRIA_INLINE __m512i add_fifth_bits(__m512i nibbles, __m512i bits, int step) {
  const __m512i byte = _mm512_shuffle_epi8(
      bits, _mm512_add_epi8(
                _mm512_set1_epi8(static_cast<char>(step / 2)),
                _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12))));
  const __m512i which = _mm512_set1_epi32(static_cast<int>(step % 2 ? 0x80402010u : 0x08040201u));
  return _mm512_mask_add_epi8(nibbles, _mm512_test_epi8_mask(byte, which), nibbles, _mm512_set1_epi8(16));
}

template <class F>
static void unpack_panel32(const RowPointers& rows, int64_t first, int blocks, void* panel) {
  using Block = typename F::Block;
  constexpr bool kBytes = sizeof(Block) > 32, kFifth = requires(Block b) { b.qh; };
  auto* p = static_cast<Panel32*>(panel);
  uint16_t d[kPanelBlocks][kPanelRows], m[kPanelBlocks][kPanelRows];
  uint32_t fifth[kPanelBlocks][kPanelRows];
  for (int i = 0; i < kPanelRows; i++) {
    const Block* block = reinterpret_cast<const Block*>(rows.row[i]) + first;
    for (int b = 0; b < blocks; b++) {
      d[b][i] = block[b].d;
      if constexpr (F::kHasMin) m[b][i] = block[b].m;
      if constexpr (kFifth) fifth[b][i] = q5_high_bits(block[b].qh);
    }
  }
  for (int b = 0; b < blocks; b++) {
    for (int half = 0; half < 2; half++) {
      __m512i bits = _mm512_setzero_si512();
      if constexpr (kFifth) bits = _mm512_loadu_si512(fifth[b] + 16 * half);
      for (int quarter = 0; quarter < (kBytes ? 2 : 1); quarter++) {
        __m512i r[4];
        turn(
            [&](int i) {
              return reinterpret_cast<const Block*>(rows.row[16 * half + i])[first + b].qs + 16 * quarter;
            },
            r);
#pragma GCC unroll 8
        for (int k = 0; k < (kBytes ? 4 : 8); k++) {
          __m512i v = kBytes ? flip_signs(r[k % 4]) : shifted(r[k % 4], k < 4 ? 0 : 4, 15);
          if constexpr (kFifth) v = add_fifth_bits(v, bits, k);
          if constexpr (!kBytes) v = nibble_values<F>(v);
          _mm512_store_si512(p[b].q[4 * quarter + k] + 64 * half, v);
        }
      }
    }
  }
  for (int b = 0; b < blocks; b++) {
    for (int half = 0; half < 2; half++) {
      store(p[b].d + 16 * half, load_f16(d[b] + 16 * half));
      if constexpr (F::kHasMin) store(p[b].m + 16 * half, load_f16(m[b] + 16 * half));
    }
  }
}

// ---- super-blocks of 256: quants ----

/// The 32 rows' blocks.
template <class Block>
struct BlockPointers {
  const Block* row[kPanelRows];
};

// Any format: turned after it was taken apart.
template <class F>
CRIA_INLINE void turn_quants(F, const BlockPointers<typename F::Block>& blocks, PanelStep (*q)[8]) {
  for (int half = 0; half < 2; half++) {
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; pair++) {
      __m512i r[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) {
        I8x32 first, second;
        F::pair(*blocks.row[16 * half + i], pair, first, second);
        r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(first.v), second.v, 1);
        if constexpr (F::kSigned) r[i] = flip_signs(r[i]);
      }
      transpose16(r);
      for (int k = 0; k < 16; k++) _mm512_store_si512(q[2 * pair + k / 8][k % 8] + 64 * half, r[k]);
    }
  }
}

// 64 bytes of 16 rows, turned.
template <class Block>
CRIA_INLINE void turn_bytes(const BlockPointers<Block>& blocks, int half, int64_t offset, __m512i r[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++)
    r[i] = _mm512_loadu_si512(reinterpret_cast<const uint8_t*>(blocks.row[16 * half + i]) + offset);
  transpose16(r);
}

// Groups 2p and 2p + 1 stay the low and the high nibbles of q[p]: half the stores.
CRIA_INLINE void turn_quants(FormatQ4_K, const BlockPointers<BlockQ4_K>& blocks, PanelStep (*q)[8]) {
  for (int i = 0; i < 4; i++) {
    const int half = i % 2, c = i / 2;
    __m512i r[16];
    turn_bytes(blocks, half, static_cast<int64_t>(offsetof(BlockQ4_K, qs)) + 64 * c, r);
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) _mm512_store_si512(q[2 * c + k / 8][k % 8] + 64 * half, r[k]);
  }
}

CRIA_INLINE void turn_quants(FormatQ5_K, const BlockPointers<BlockQ5_K>& blocks, PanelStep (*q)[8]) {
  __m512i high[16];  // [8 * half + step]: rows i and 16 + i are turned together
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) high[i] = two_halves(blocks.row[i]->qh, blocks.row[16 + i]->qh);
  transpose16(high);
  for (int half = 0; half < 2; half++) {
#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
      __m512i r[16];
      turn_bytes(blocks, half, static_cast<int64_t>(offsetof(BlockQ5_K, qs)) + 64 * c, r);
#pragma GCC unroll 16
      for (int k = 0; k < 16; k++) {
        const int g = 4 * c + k / 8 * 2;
        const __m512i h = high[8 * half + k % 8];
        _mm512_store_si512(q[g][k % 8] + 64 * half, _mm512_or_si512(keep(r[k], 15), shifted(h, g - 4, 16)));
        _mm512_store_si512(q[g + 1][k % 8] + 64 * half,
                           _mm512_or_si512(shifted(r[k], 4, 15), shifted(h, g - 3, 16)));
      }
    }
  }
}

CRIA_INLINE void turn_quants(FormatQ6_K, const BlockPointers<BlockQ6_K>& blocks, PanelStep (*q)[8]) {
  for (int half = 0; half < 2; half++) {
    __m512i high[16];
    turn_bytes(blocks, half, offsetof(BlockQ6_K, qh), high);
#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
      __m512i r[16];
      turn_bytes(blocks, half, static_cast<int64_t>(offsetof(BlockQ6_K, ql)) + 64 * c, r);
#pragma GCC unroll 16
      for (int k = 0; k < 16; k++) {
        const int g = 4 * c + k / 8;
        const __m512i h = high[8 * c + k % 8];
        _mm512_store_si512(q[g][k % 8] + 64 * half,
                           _mm512_or_si512(keep(r[k], 15), shifted(h, 2 * (k / 8) - 4, 0x30)));
        _mm512_store_si512(q[g + 2][k % 8] + 64 * half,
                           _mm512_or_si512(shifted(r[k], 4, 15), shifted(h, 2 * (k / 8), 0x30)));
      }
    }
  }
}

CRIA_INLINE void turn_quants(FormatIQ4_XS, const BlockPointers<BlockIQ4_XS>& blocks, PanelStep (*q)[8]) {
  for (int i = 0; i < 4; i++) {
    const int half = i % 2, c = i / 2;  // groups 4c .. 4c + 3
    __m512i r[16];
    turn_bytes(blocks, half, static_cast<int64_t>(offsetof(BlockIQ4_XS, qs)) + 64 * c, r);
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) {
      PanelStep* group = q[4 * c + k / 4];
      _mm512_store_si512(group[k % 4] + 64 * half, nibble_values<FormatIQ4_XS>(keep(r[k], 15)));
      _mm512_store_si512(group[4 + k % 4] + 64 * half, nibble_values<FormatIQ4_XS>(shifted(r[k], 4, 15)));
    }
  }
}

// ---- super-blocks of 256: scales ----

// The low words of a register of dwords, as words in the low half and nothing above.
CRIA_INLINE F32x16 f16_of_dwords(__m512i dwords) { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(dwords))}; }

// The 16-bit scales (or mins) of 32 rows, turned: turned[8 * half + j] holds numbers 2j and 2j + 1 of 16
// rows.
template <class Number>
CRIA_INLINE void turn_scales(Number number, __m512i turned[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++)
    turned[i] = _mm512_inserti64x4(_mm512_castsi256_si512(number(i)), number(16 + i), 1);
  transpose16(turned);
}

template <class F>
CRIA_INLINE void unpack_scales(F, const BlockPointers<typename F::Block>& blocks, Panel256<F::kGroups>& p) {
  static_assert(!F::kHasMin);
  int16_t scale[kPanelRows][16];
  uint16_t d[kPanelRows];
  for (int i = 0; i < kPanelRows; i++) {
    F::scales(*blocks.row[i], scale[i], nullptr);
    d[i] = blocks.row[i]->d;
  }
  __m512i turned[16];
  turn_scales([&](int i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scale[i])); }, turned);
  for (int half = 0; half < 2; half++) {
    for (int j = 0; j < F::kGroups / 2; j++) {
      const __m512i both = turned[8 * half + j];
      _mm512_store_si512(p.scale[2 * j] + 16 * half, _mm512_srai_epi32(_mm512_slli_epi32(both, 16), 16));
      _mm512_store_si512(p.scale[2 * j + 1] + 16 * half, _mm512_srai_epi32(both, 16));
    }
    store(p.d + 16 * half, load_f16(d + 16 * half));
  }
}

// Q4_K and Q5_K: the 16 bytes at the head of a block, d, dmin and the words of k4_scales(), turned by fours.
template <class Block>
CRIA_INLINE void unpack_k4_scales(const BlockPointers<Block>& blocks, Panel256<8>& p) {
  for (int half = 0; half < 2; half++) {
    __m512i head[4];
    turn([&](int i) { return blocks.row[16 * half + i]; }, head);
    const __m512i d = head[0], w0 = head[1], w1 = head[2], w2 = head[3];
    const __m512i scale[2] = {keep(w0, 0x3f), _mm512_or_si512(keep(w2, 0x0f), shifted(w0, 2, 0x30))};
    const __m512i min[2] = {keep(w1, 0x3f), _mm512_or_si512(shifted(w2, 4, 0x0f), shifted(w1, 2, 0x30))};
#pragma GCC unroll 2
    for (int four = 0; four < 2; four++) {  // groups 4 four .. 4 four + 3, a byte each
#pragma GCC unroll 4
      for (int g = 0; g < 4; g++)
        _mm512_store_si512(p.scale[4 * four + g] + 16 * half,
                           _mm512_and_si512(_mm512_srli_epi32(scale[four], static_cast<unsigned>(8 * g)),
                                            _mm512_set1_epi32(255)));
      const __m128i pairs = _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
      const __m512i first = _mm512_broadcast_i32x4(pairs), two = _mm512_set1_epi16(2);
      _mm512_store_si512(p.min[2 * four][16 * half], _mm512_shuffle_epi8(min[four], first));
      _mm512_store_si512(p.min[2 * four + 1][16 * half],
                         _mm512_shuffle_epi8(min[four], _mm512_add_epi8(first, two)));
    }
    store(p.d + 16 * half, f16_of_dwords(d));
    store(p.minus_dmin + 16 * half, sub(set1(0.0f), f16_of_dwords(_mm512_srli_epi32(d, 16))));
  }
}
CRIA_INLINE void unpack_scales(FormatQ4_K, const BlockPointers<BlockQ4_K>& blocks, Panel256<8>& p) {
  unpack_k4_scales(blocks, p);
}
CRIA_INLINE void unpack_scales(FormatQ5_K, const BlockPointers<BlockQ5_K>& blocks, Panel256<8>& p) {
  unpack_k4_scales(blocks, p);
}

// Q6_K and Q2_K: a byte for each of sixteen groups, turned by fours.
template <class F>
CRIA_INLINE void unpack_byte_scales(const BlockPointers<typename F::Block>& blocks, Panel256<16>& p) {
  uint16_t d[kPanelRows], dmin[kPanelRows];
  for (int i = 0; i < kPanelRows; i++) {
    d[i] = blocks.row[i]->d;
    dmin[i] = min_scale(*blocks.row[i]);
  }
  for (int half = 0; half < 2; half++) {
    __m512i fours[4];
    turn([&](int i) { return blocks.row[16 * half + i]->scales; }, fours);
#pragma GCC unroll 4
    for (int four = 0; four < 4; four++) {  // groups 4 four .. 4 four + 3, a byte each
      const __m512i all = fours[four], scales = F::kHasMin ? keep(all, 15) : all;
#pragma GCC unroll 4
      for (unsigned g = 0; g < 4; g++)  // to the top and down again: with their signs
        _mm512_store_si512(p.scale[4 * four + static_cast<int>(g)] + 16 * half,
                           _mm512_srai_epi32(_mm512_slli_epi32(scales, 24 - 8 * g), 24));
      const __m128i pairs = _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
      const __m512i mins = shifted(all, 4, 15), first = _mm512_broadcast_i32x4(pairs),
                    two = _mm512_set1_epi16(2);
      if constexpr (F::kHasMin) {
        _mm512_store_si512(p.min[2 * four][16 * half], _mm512_shuffle_epi8(mins, first));
        _mm512_store_si512(p.min[2 * four + 1][16 * half],
                           _mm512_shuffle_epi8(mins, _mm512_add_epi8(first, two)));
      }
    }
    store(p.d + 16 * half, load_f16(d + 16 * half));
    if constexpr (F::kHasMin) store(p.minus_dmin + 16 * half, sub(set1(0.0f), load_f16(dmin + 16 * half)));
  }
}
CRIA_INLINE void unpack_scales(FormatQ6_K, const BlockPointers<BlockQ6_K>& blocks, Panel256<16>& p) {
  unpack_byte_scales<FormatQ6_K>(blocks, p);
}
CRIA_INLINE void unpack_scales(FormatQ2_K, const BlockPointers<BlockQ2_K>& blocks, Panel256<16>& p) {
  unpack_byte_scales<FormatQ2_K>(blocks, p);
}

template <class F>
static void unpack_panel256(const RowPointers& rows, int64_t first, int, void* panel) {
  auto& p = *static_cast<Panel256<F::kGroups>*>(panel);
  BlockPointers<typename F::Block> blocks;
  for (int i = 0; i < kPanelRows; i++)
    blocks.row[i] = reinterpret_cast<const typename F::Block*>(rows.row[i]) + first;
  unpack_scales(F{}, blocks, p);
  turn_quants(F{}, blocks, p.q);
}

}  // namespace cria::CRIA_ISA
