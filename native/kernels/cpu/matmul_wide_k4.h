// matmul_wide.h for Q4_K and Q5_K, the formats most used: scales and mins of eight rows are taken apart
// together.
//
// 64 bytes of quants hold groups 0|2 in their low nibbles and 1|3 in the high ones; the activations are read
// in the same order, so that a block costs two shifts. The mins of eight rows meet the activations' sums as
// eight lanes of one vector.
#pragma once

#include "kernels/cpu/matmul_wide.h"

namespace cria::CRIA_ISA {

/// Eight rows' headers of one block: each row's eight scales and eight mins as bytes, d and dmin as halfs.
struct K4Headers {
  alignas(64) uint64_t scales[kTileRows];
  __m512i mins;        // a qword a row
  __m256i d_and_dmin;  // a dword a row
};

CRIA_INLINE void read_k4_headers(const Tile& tile, int64_t at, K4Headers& h) {
  const uint8_t* const* rows = tile.rows;
  const __m512i even = four_quarters(rows[0] + at, rows[2] + at, rows[4] + at, rows[6] + at);
  const __m512i odd = four_quarters(rows[1] + at, rows[3] + at, rows[5] + at, rows[7] + at);
  // A qword a row, as dwords: d, w0 and w1, w2, with the words of k4_scales().
  const __m512i d_w0 = _mm512_unpacklo_epi64(even, odd), w1_w2 = _mm512_unpackhi_epi64(even, odd);
  const __m512i w0_w1 = _mm512_mask_shuffle_epi32(_mm512_srli_epi64(d_w0, 32), 0xaaaa, w1_w2, _MM_PERM_CCAA);
  const __m512i w2_w2 = _mm512_shuffle_epi32(w1_w2, _MM_PERM_DDBB);
  const __m512i nibbles = keep(_mm512_srlv_epi32(w2_w2, _mm512_set1_epi64(int64_t{4} << 32)), 0x0f);
  const __m512i low = keep(w0_w1, 0x3f);                                                   // groups 0 to 3
  const __m512i high = _mm512_or_si512(nibbles, keep(_mm512_srli_epi16(w0_w1, 2), 0x30));  // groups 4 to 7
  _mm512_store_si512(h.scales, _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA));
  h.mins = _mm512_mask_shuffle_epi32(high, 0x5555, low, _MM_PERM_DDBB);
  h.d_and_dmin = _mm512_cvtepi64_epi32(d_w0);
}

/// One token's sums of 32 at a block, as the words that meet even and odd bytes of the mins.
struct K4Sums {
  __m512i even, odd;
};
CRIA_INLINE K4Sums read_k4_sums(const int16_t* sums16) {
  const __m256i pairs =
      _mm256_madd_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums16)), _mm256_set1_epi16(1));
  const __m128i words = _mm256_cvtepi32_epi16(pairs);  // at most 32 * 127 each
  const __m128i even = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 13, 12, 9, 8, 5, 4, 1, 0);
  const __m128i odd = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 15, 14, 11, 10, 7, 6, 3, 2);
  return {_mm512_broadcastq_epi64(_mm_shuffle_epi8(words, even)),
          _mm512_broadcastq_epi64(_mm_shuffle_epi8(words, odd))};
}

// Lane r: the sum over groups of row r's min times the token's sum.
CRIA_INLINE __m256i mins_sum(const K4Headers& h, const K4Sums& s) {
  __m512i sum =
      _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_and_si512(h.mins, _mm512_set1_epi16(0xff)), s.even);
  sum = _mm512_dpwssd_epi32(sum, _mm512_srli_epi16(h.mins, 8), s.odd);
  return _mm512_cvtepi64_epi32(_mm512_add_epi32(sum, _mm512_srli_epi64(sum, 32)));
}

// Half `half` of the block's quants: groups 4 half | 4 half + 2 in `low`, 4 half + 1 | 4 half + 3 in `high`.
CRIA_INLINE void k4_bytes(const BlockQ4_K& b, int half, __m512i& low, __m512i& high) {
  const __m512i bytes = _mm512_loadu_si512(b.qs + 64 * half);
  low = keep(bytes, 15);
  high = keep(_mm512_srli_epi16(bytes, 4), 15);
}
CRIA_INLINE void k4_bytes(const BlockQ5_K& b, int half, __m512i& low, __m512i& high) {
  const __m512i bytes = _mm512_loadu_si512(b.qs + 64 * half), fifth = both_halves(b.qh),
                sixteen = _mm512_set1_epi8(16);
  low = keep(bytes, 15);
  high = keep(_mm512_srli_epi16(bytes, 4), 15);
  const auto bits = [&](int g) {  // bit g of the lower 32 bytes, bit g + 2 of the upper
    const __m256i lower = _mm256_set1_epi8(static_cast<char>(1 << g)),
                  upper = _mm256_set1_epi8(static_cast<char>(4 << g));
    return _mm512_test_epi8_mask(fifth, _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1));
  };
  low = _mm512_mask_add_epi8(low, bits(4 * half), low, sixteen);
  high = _mm512_mask_add_epi8(high, bits(4 * half + 1), high, sixteen);
}

template <class F, int kTokens>
static void wide_k4(const Tile& shared_tile, float out[][kTileRows]) {
  using Block = typename F::Block;
  constexpr int kStepBytes = kTileRows * static_cast<int>(sizeof(Block));
  const Tile tile = shared_tile;  // a copy, so that the compiler keeps the rows in registers
  const ActivationRows& x = *tile.x;
  const int64_t blocks = tile.cols / kSuperBlockSize;
  const uint8_t* ahead = tile.rows[0] + tile.prefetch + kFetchLead;
  // Words of packs(groups g | g + 2, groups g + 1 | g + 3): lanes 0 and 1 want scales g and g + 1, the others
  // g + 2 and g + 3.
  alignas(64) static constexpr uint64_t kIndex[8] = {
      0x8000800080008000, 0x8001800180018001, 0x8000800080008000, 0x8001800180018001,
      0x8002800280028002, 0x8003800380038003, 0x8002800280028002, 0x8003800380038003};
  const __m512i index[2] = {_mm512_load_si512(kIndex),
                            _mm512_or_si512(_mm512_load_si512(kIndex), _mm512_set1_epi16(4))};
  __m256 acc[kTokens];
  for (int t = 0; t < kTokens; t++) acc[t] = _mm256_setzero_ps();
  for (int64_t b = 0; b < blocks; b++, ahead += kStepBytes) {
    const int64_t at = b * static_cast<int64_t>(sizeof(Block));
    K4Headers headers;
    read_k4_headers(tile, at, headers);
    __m512i q[kTokens][4], parts[kTokens][2];
    for (int t = 0; t < kTokens; t++) {
      const int8_t* p = x.q + (tile.token + t) * x.cols + kSuperBlockSize * b;
      for (int half = 0; half < 2; half++) {
        q[t][2 * half] = two_halves(p + 128 * half, p + 128 * half + 64);
        q[t][2 * half + 1] = two_halves(p + 128 * half + 32, p + 128 * half + 96);
      }
    }
#pragma GCC unroll 2
    for (int upper = 0; upper < 2; upper++) {
      __m512i v[kTokens][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        const int r = 4 * upper + i;
        const Block& block = *reinterpret_cast<const Block*>(tile.rows[r] + at);
        fetch_lines(ahead, r * kStepBytes / 512, (r + 1) * kStepBytes / 512);
        const __m512i scales = _mm512_set1_epi64(static_cast<int64_t>(headers.scales[r]));
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          __m512i low, high;
          k4_bytes(block, half, low, high);
          const __m512i words = _mm512_shuffle_epi8(scales, index[half]);
          for (int t = 0; t < kTokens; t++) {
            // Sums of four products fit 16 bits: at most 4 * 31 * 127.
            const __m512i zero = _mm512_setzero_si512();
            const __m512i packed = _mm512_packs_epi32(_mm512_dpbusd_epi32(zero, low, q[t][2 * half]),
                                                      _mm512_dpbusd_epi32(zero, high, q[t][2 * half + 1]));
            v[t][i] = _mm512_dpwssd_epi32(half ? v[t][i] : zero, packed, words);
          }
        }
      }
      for (int t = 0; t < kTokens; t++) parts[t][upper] = sum_within_lanes(v[t]);
    }
    const __m256 dw = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(headers.d_and_dmin));
    const __m256 dmin = _mm256_cvtph_ps(_mm256_cvtepi32_epi16(_mm256_srli_epi32(headers.d_and_dmin, 16)));
    for (int t = 0; t < kTokens; t++) {
      const int64_t token = tile.token + t;
      const __m512i pairs = _mm512_add_epi32(_mm512_shuffle_i32x4(parts[t][0], parts[t][1], 0x88),
                                             _mm512_shuffle_i32x4(parts[t][0], parts[t][1], 0xdd));
      const __m512i ordered = _mm512_shuffle_i32x4(pairs, pairs, 0xd8);
      const __m256i isum =
          _mm256_add_epi32(_mm512_castsi512_si256(ordered), _mm512_extracti64x4_epi64(ordered, 1));
      const __m256i msum = mins_sum(headers, read_k4_sums(x.sums16 + token * x.sums_stride + 16 * b));
      const __m256 step =
          _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(msum), _mm256_mul_ps(dw, _mm256_cvtepi32_ps(isum)));
      acc[t] = _mm256_fmadd_ps(_mm256_set1_ps(x.scale[token * x.scale_stride + b]), step, acc[t]);
    }
  }
  for (int t = 0; t < kTokens; t++) _mm256_storeu_ps(out[t], acc[t]);
}

}  // namespace cria::CRIA_ISA
