// Blocks of up to 32 rows -> repacked (repack.h). Compiled per level.
#pragma once

#include "kernels/cpu/bit_layout.h"

namespace cria::CRIA_ISA {

/// The same dwords of 32 rows.
using DwordRow = uint32_t[kPanelRows];

// Dwords [from, to) of one block of each row, at row[i] + offset.
template <DType kType>
CRIA_INLINE void repack_dwords(const RowPointers& rows, int64_t offset, int from, int to, DwordRow* out) {
  for (int i = 0; i < rows.count; i++)
    for (int j = from; j < to; j++)
      __builtin_memcpy(&out[dword_place(kType, j)][i], rows.row[i] + offset + 4 * j, 4);
}

#if defined(CRIA_WIDE)

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

CRIA_INLINE __m128i load_quarter(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
CRIA_INLINE __m512i four_quarters(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  __m512i v = _mm512_castsi128_si512(load_quarter(a));
  v = _mm512_inserti32x4(v, load_quarter(b), 1);
  v = _mm512_inserti32x4(v, load_quarter(c), 2);
  return _mm512_inserti32x4(v, load_quarter(d), 3);
}

// All 32 rows, 16 dwords and then 4 at a time.
template <DType kType>
CRIA_INLINE int repack_wide(const RowPointers& rows, int64_t offset, int dwords, DwordRow* out) {
  int j = 0;
  for (; j + 16 <= dwords; j += 16) {
    for (int half = 0; half < 2; half++) {
      __m512i r[16];
      CRIA_UNROLL(16)
      for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(rows.row[16 * half + i] + offset + 4 * j);
      transpose16(r);
      CRIA_UNROLL(16)
      for (int k = 0; k < 16; k++) _mm512_store_si512(out[dword_place(kType, j + k)] + 16 * half, r[k]);
    }
  }
  for (; j + 4 <= dwords; j += 4) {
    for (int half = 0; half < 2; half++) {
      const auto at = [&](int i) { return rows.row[16 * half + i] + offset + 4 * j; };
      __m512i h[4];
      CRIA_UNROLL(4)
      for (int i = 0; i < 4; i++) h[i] = four_quarters(at(i), at(4 + i), at(8 + i), at(12 + i));
      const __m512i low01 = _mm512_unpacklo_epi32(h[0], h[1]), low23 = _mm512_unpacklo_epi32(h[2], h[3]);
      const __m512i high01 = _mm512_unpackhi_epi32(h[0], h[1]), high23 = _mm512_unpackhi_epi32(h[2], h[3]);
      _mm512_store_si512(out[dword_place(kType, j)] + 16 * half, _mm512_unpacklo_epi64(low01, low23));
      _mm512_store_si512(out[dword_place(kType, j + 1)] + 16 * half, _mm512_unpackhi_epi64(low01, low23));
      _mm512_store_si512(out[dword_place(kType, j + 2)] + 16 * half, _mm512_unpacklo_epi64(high01, high23));
      _mm512_store_si512(out[dword_place(kType, j + 3)] + 16 * half, _mm512_unpackhi_epi64(high01, high23));
    }
  }
  return j;
}

#endif

// Sixteen rows at a time, in place.
template <DType kType>
CRIA_INLINE void arrange_bits(DwordRow* block) {
  constexpr int kCount = block_shape(kType).cols / 32 * repacked_bits(kType);
  for (int half = 0; half < 2; half++) {
    I32x16 file[kCount], panel[kCount];
    for (int i = 0; i < kCount; i++) file[i] = load_i32(block[first_weight_dword(kType) + i] + 16 * half);
    pack_bits<kType>(file, panel);
    for (int i = 0; i < kCount; i++) store(block[first_weight_dword(kType) + i] + 16 * half, panel[i]);
  }
}

CRIA_INLINE uint8_t* repack_words(const RowPointers& rows, int64_t offset, uint8_t* out) {
  for (int i = 0; i < rows.count; i++) __builtin_memcpy(out + 2 * i, rows.row[i] + offset, 2);
  return out + 2 * kPanelRows;
}

// Meanwhile as many bytes are fetched from `ahead`, unless that is null.
template <DType kType>
CRIA_INLINE void repack_blocks(const RowPointers& rows, int64_t first_block, int64_t n_blocks, uint8_t* out,
                               const uint8_t* ahead) {
  constexpr BlockShape kShape = block_shape(kType);
  constexpr int kBytes = kShape.bytes();
  if (rows.count < kPanelRows) __builtin_memset(out, 0, static_cast<size_t>(n_blocks * kBytes * kPanelRows));
  for (int64_t b = first_block; b < first_block + n_blocks; b++) {
    if (ahead)
      for (const uint8_t* end = ahead + kBytes * kPanelRows; ahead < end; ahead += 64) prefetch(ahead);
    int64_t offset = b * kBytes;
    if (kShape.trailing_word) out = repack_words(rows, offset + 4 * kShape.dwords, out);
    if (kShape.leading_word) {
      out = repack_words(rows, offset, out);
      offset += 2;
    }
    auto* dwords = reinterpret_cast<DwordRow*>(out);
    int done = 0;
#if defined(CRIA_WIDE)
    if (rows.count == kPanelRows) done = repack_wide<kType>(rows, offset, kShape.dwords, dwords);
#endif
    repack_dwords<kType>(rows, offset, done, kShape.dwords, dwords);
    if constexpr (repacked_bits(kType) > 0) arrange_bits<kType>(dwords);
    out += kShape.dwords * sizeof(DwordRow);
  }
}

static void repack_ahead(DType dtype, const RowPointers& rows, int64_t first_block, int64_t n_blocks,
                         uint8_t* out, const uint8_t* ahead) {
  switch (dtype) {
    case DType::q4_0:
    case DType::iq4_nl: return repack_blocks<DType::q4_0>(rows, first_block, n_blocks, out, ahead);
    case DType::q4_1: return repack_blocks<DType::q4_1>(rows, first_block, n_blocks, out, ahead);
    case DType::q5_0: return repack_blocks<DType::q5_0>(rows, first_block, n_blocks, out, ahead);
    case DType::q5_1: return repack_blocks<DType::q5_1>(rows, first_block, n_blocks, out, ahead);
    case DType::q8_0: return repack_blocks<DType::q8_0>(rows, first_block, n_blocks, out, ahead);
    case DType::q2_k: return repack_blocks<DType::q2_k>(rows, first_block, n_blocks, out, ahead);
    case DType::q3_k: return repack_blocks<DType::q3_k>(rows, first_block, n_blocks, out, ahead);
    case DType::q4_k: return repack_blocks<DType::q4_k>(rows, first_block, n_blocks, out, ahead);
    case DType::q5_k: return repack_blocks<DType::q5_k>(rows, first_block, n_blocks, out, ahead);
    case DType::q6_k: return repack_blocks<DType::q6_k>(rows, first_block, n_blocks, out, ahead);
    case DType::iq4_xs: return repack_blocks<DType::iq4_xs>(rows, first_block, n_blocks, out, ahead);
    default: return;
  }
}

static void repack(DType dtype, const RowPointers* rows, int64_t first_block, int64_t n_blocks,
                   uint8_t* out) {
  repack_ahead(dtype, *rows, first_block, n_blocks, out, nullptr);
}

}  // namespace cria::CRIA_ISA
