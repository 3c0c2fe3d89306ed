// Blocks of up to 32 rows -> repacked (repack.h). Compiled per level.
#pragma once

#include "kernels/cpu/bit_layout.h"

namespace cria::CRIA_ISA {

/// The same dwords of 32 rows.
using DwordRow = uint32_t[kPanelRows];

// Dwords [from, to) of one block of each row, at row[i] + offset.
template <class Block>
CRIA_INLINE void repack_dwords(const RowPointers& rows, int64_t offset, int from, int to, DwordRow* out) {
  for (int i = 0; i < rows.count; i++)
    for (int j = from; j < to; j++)
      __builtin_memcpy(&out[panel_dword<Block>(j)][i], rows.row[i] + offset + 4 * j, 4);
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
template <class Block>
CRIA_INLINE int repack_wide(const RowPointers& rows, int64_t offset, int dwords, DwordRow* out) {
  int j = 0;
  for (; j + 16 <= dwords; j += 16) {
    for (int half = 0; half < 2; half++) {
      __m512i r[16];
      CRIA_UNROLL(16)
      for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(rows.row[16 * half + i] + offset + 4 * j);
      transpose16(r);
      CRIA_UNROLL(16)
      for (int k = 0; k < 16; k++) _mm512_store_si512(out[panel_dword<Block>(j + k)] + 16 * half, r[k]);
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
      _mm512_store_si512(out[panel_dword<Block>(j)] + 16 * half, _mm512_unpacklo_epi64(low01, low23));
      _mm512_store_si512(out[panel_dword<Block>(j + 1)] + 16 * half, _mm512_unpackhi_epi64(low01, low23));
      _mm512_store_si512(out[panel_dword<Block>(j + 2)] + 16 * half, _mm512_unpacklo_epi64(high01, high23));
      _mm512_store_si512(out[panel_dword<Block>(j + 3)] + 16 * half, _mm512_unpackhi_epi64(high01, high23));
    }
  }
  return j;
}

#endif

// Weights of 3, 5 and 6 bits, from the file's form to the panel's, in place: sixteen rows at a time.
template <class Block>
CRIA_INLINE void repack_bits(DwordRow* block) {
  constexpr int kCount = Block::kElements / 32 * Block::kPanelBits;
  for (int half = 0; half < 2; half++) {
    I32x16 file[kCount], panel[kCount];
    for (int i = 0; i < kCount; i++) file[i] = load_i32(block[kFirstWeightDword<Block> + i] + 16 * half);
    pack_bits<Block>(file, panel);
    for (int i = 0; i < kCount; i++) store(block[kFirstWeightDword<Block> + i] + 16 * half, panel[i]);
  }
}

CRIA_INLINE uint8_t* repack_words(const RowPointers& rows, int64_t offset, uint8_t* out) {
  for (int i = 0; i < rows.count; i++) __builtin_memcpy(out + 2 * i, rows.row[i] + offset, 2);
  return out + 2 * kPanelRows;
}

// Prefetches as many bytes from `ahead` meanwhile, unless that is null.
template <class Block>
CRIA_INLINE void repack_blocks(const RowPointers& rows, int64_t first_block, int64_t n_blocks, uint8_t* out,
                               const uint8_t* ahead) {
  constexpr BlockShape kShape = block_shape<Block>();
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
    if (rows.count == kPanelRows) done = repack_wide<Block>(rows, offset, kShape.dwords, dwords);
#endif
    repack_dwords<Block>(rows, offset, done, kShape.dwords, dwords);
    if constexpr (Block::kPanelBits > 0) repack_bits<Block>(dwords);
    out += kShape.dwords * sizeof(DwordRow);
  }
}

/// Blocks that panels hold in another form: rewritten one block of each row at a time, and then repacked.
template <class Block>
CRIA_INLINE void rewrite_blocks(const RowPointers& rows, int64_t first_block, int64_t n_blocks, uint8_t* out,
                                const uint8_t* ahead) {
  using P = PanelBlock<Block>;
  P rewritten[kPanelRows];
  RowPointers from;
  from.count = rows.count;
  for (int i = 0; i < rows.count; i++) from.row[i] = reinterpret_cast<const uint8_t*>(rewritten + i);
  constexpr int kBlockBytes = static_cast<int>(sizeof(Block));
  for (int64_t b = first_block; b < first_block + n_blocks; b++, out += kPanelRows * sizeof(P)) {
    for (int i = 0; i < rows.count; i++) {
      const uint8_t* block = rows.row[i] + b * kBlockBytes;
      if (ahead) prefetch(ahead + (b - first_block) * kBlockBytes * kPanelRows + i * kBlockBytes);
      P::from(*reinterpret_cast<const Block*>(block), rewritten[i]);
    }
    repack_blocks<P>(from, 0, 1, out, nullptr);
  }
}

static void repack_ahead(DType dtype, const RowPointers& rows, int64_t first_block, int64_t n_blocks,
                         uint8_t* out, const uint8_t* ahead) {
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (!kIsRepacked<Block>)
      return;
    else if constexpr (requires(const Block& b, PanelBlock<Block>& p) { PanelBlock<Block>::from(b, p); })
      rewrite_blocks<Block>(rows, first_block, n_blocks, out, ahead);
    else
      repack_blocks<PanelBlock<Block>>(rows, first_block, n_blocks, out, ahead);
  });
}

static void repack(DType dtype, const RowPointers* rows, int64_t first_block, int64_t n_blocks,
                   uint8_t* out) {
  repack_ahead(dtype, *rows, first_block, n_blocks, out, nullptr);
}

}  // namespace cria::CRIA_ISA
