// Products of eight rows with one to three tokens on AVX-512 VNNI, with the bits of matmul.h, in the file's
// own layout.
//
// Eight rows by two blocks are sixteen integer dot products, each left as sixteen lanes and summed by one
// tree, so that the float steps are taken for many rows at once. While a tile is worked on, the bytes a tile
// and 4 KiB further are fetched evenly: DRAM latency is about 250 ns, too long for the hardware prefetchers
// alone.
#pragma once

#include "kernels/cpu/matmul_unpack.h"

namespace cria::CRIA_ISA {

constexpr int64_t kFetchLead =
    4096;  // the last row of a tile is needed as soon as its first: fetch further than a tile

// Four vectors -> in each 128-bit lane, the four sums over that lane.
CRIA_INLINE __m512i sum_within_lanes(const __m512i* v) {
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// Lines [from, to) of the bytes being fetched ahead.
CRIA_INLINE void fetch_lines(const uint8_t* ahead, int from, int to) {
  for (int line = from; line < to; line++) prefetch(ahead + 64 * line);
}

// ---- blocks of 32: two blocks of a row are 64 unsigned bytes ----

CRIA_INLINE __m256i two_quarters(const void* low16, const void* high16) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(low16))),
                                 _mm_loadu_si128(static_cast<const __m128i*>(high16)), 1);
}

/// Two blocks of nibbles: elements 0 to 15 of both, and elements 16 to 31. (Halves of both blocks, rather
/// than a block after the other, spare the shuffles that would bring a block's nibbles together, and a level
/// of the tree.)
struct NibbleHalves {
  __m256i first, last;
};
template <class Block>
CRIA_INLINE NibbleHalves two_nibbles(const Block& a, const Block& b) {
  const __m256i both = two_quarters(a.qs, b.qs), low = _mm256_set1_epi8(15);
  return {_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16(both, 4), low)};
}
template <class Block>
CRIA_INLINE NibbleHalves with_fifth_bits(const Block& a, const Block& b) {
  const NibbleHalves low = two_nibbles(a, b);
  const uint32_t bits_a = q5_high_bits(a.qh), bits_b = q5_high_bits(b.qh);
  const __m256i sixteen = _mm256_set1_epi8(16);
  return {_mm256_mask_add_epi8(low.first, (bits_a & 0xffff) | bits_b << 16, low.first, sixteen),
          _mm256_mask_add_epi8(low.last, bits_a >> 16 | (bits_b & 0xffff0000), low.last, sixteen)};
}

// What matmul_formats.h says, for two blocks at once and always unsigned.
CRIA_INLINE __m512i two_blocks(const BlockQ8_0& a, const BlockQ8_0& b) {
  return _mm512_xor_si512(two_halves(a.qs, b.qs), _mm512_set1_epi8(static_cast<char>(0x80)));
}
CRIA_INLINE NibbleHalves two_blocks(const BlockQ4_0& a, const BlockQ4_0& b) { return two_nibbles(a, b); }
CRIA_INLINE NibbleHalves two_blocks(const BlockQ4_1& a, const BlockQ4_1& b) { return two_nibbles(a, b); }
CRIA_INLINE NibbleHalves two_blocks(const BlockQ5_0& a, const BlockQ5_0& b) { return with_fifth_bits(a, b); }
CRIA_INLINE NibbleHalves two_blocks(const BlockQ5_1& a, const BlockQ5_1& b) { return with_fifth_bits(a, b); }
CRIA_INLINE NibbleHalves two_blocks(const BlockIQ4_NL& a, const BlockIQ4_NL& b) {
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(kIq4Values));
  const __m256i table =
      _mm256_broadcastsi128_si256(_mm_xor_si128(values, _mm_set1_epi8(static_cast<char>(0x80))));
  const NibbleHalves index = two_nibbles(a, b);
  return {_mm256_shuffle_epi8(table, index.first), _mm256_shuffle_epi8(table, index.last)};
}

/// Two blocks' activations in the order of the bytes above, and eight rows' products with them on the way to
/// their sums.
struct ByteLanes {  // Q8_0: sixteen lanes a row, eight of each block
  using Activations = __m512i;
  using Sums = __m512i;
  CRIA_INLINE Activations load(const int8_t* q, const int8_t* second) { return two_halves(q, second); }
  CRIA_INLINE __m512i multiply(__m512i bytes, Activations q) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes, q);
  }
  CRIA_INLINE Sums four_rows(const __m512i* v) { return sum_within_lanes(v); }
  CRIA_INLINE __m512i eight_rows(Sums low, Sums high) {
    const __m512i pairs =
        _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88), _mm512_shuffle_i32x4(low, high, 0xdd));
    return _mm512_shuffle_i32x4(pairs, pairs, 0xd8);
  }
};
struct NibbleLanes {  // eight lanes a row, four of each block
  struct Activations {
    __m256i first, last;
  };
  using Sums = __m256i;
  CRIA_INLINE Activations load(const int8_t* q, const int8_t* second) {
    return {two_quarters(q, second), two_quarters(q + 16, second + 16)};
  }
  CRIA_INLINE __m256i multiply(const NibbleHalves& bytes, const Activations& q) {
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), bytes.first, q.first), bytes.last,
                               q.last);
  }
  CRIA_INLINE Sums four_rows(const __m256i* v) {
    const __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
    const __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  }
  CRIA_INLINE __m512i eight_rows(Sums low, Sums high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_permute2x128_si256(low, high, 0x20)),
                              _mm256_permute2x128_si256(low, high, 0x31), 1);
  }
};

/// The r-th word of eight; r is a constant once the loop around is unrolled.
CRIA_INLINE __m128i insert_word(__m128i v, uint16_t word, int r) {
  switch (r) {
    case 0: return _mm_insert_epi16(v, word, 0);
    case 1: return _mm_insert_epi16(v, word, 1);
    case 2: return _mm_insert_epi16(v, word, 2);
    case 3: return _mm_insert_epi16(v, word, 3);
    case 4: return _mm_insert_epi16(v, word, 4);
    case 5: return _mm_insert_epi16(v, word, 5);
    case 6: return _mm_insert_epi16(v, word, 6);
    default: return _mm_insert_epi16(v, word, 7);
  }
}

CRIA_INLINE __m512 two_floats(float low, float high) {
  return _mm512_insertf32x8(_mm512_set1_ps(low), _mm256_set1_ps(high), 1);
}

template <class Block>
struct LanesOf {
  using Type = NibbleLanes;
};
template <>
struct LanesOf<BlockQ8_0> {
  using Type = ByteLanes;
};

// One step of wide_blocks32: blocks b and b + 1 of eight rows, or (kTwo false) the odd block at the end,
// which is then multiplied twice and counted once.
template <class F, int kTokens, bool kTwo>
CRIA_INLINE void wide_step32(const Tile& tile, int64_t b, const uint8_t* ahead, __m256* acc) {
  using Block = typename F::Block;
  constexpr int kOffset = F::kSigned ? 128 : F::kOffset;
  constexpr int kStepBytes = 2 * kTileRows * static_cast<int>(sizeof(Block));
  constexpr int kSecond = kTwo ? 1 : 0;
  const ActivationRows& x = *tile.x;
  const int64_t at = b * static_cast<int64_t>(sizeof(Block));
  using Lanes = typename LanesOf<Block>::Type;
  typename Lanes::Activations qx[kTokens];
  typename Lanes::Sums parts[kTokens][2];
  for (int t = 0; t < kTokens; t++) {
    const int8_t* q = x.q + (tile.token + t) * x.cols + kBlockSize * b;
    qx[t] = Lanes::load(q, q + kBlockSize * kSecond);
  }
  // Scales are inserted one by one: stored one by one and loaded together they would wait for the stores to
  // retire.
  __m128i d[2] = {}, m[2] = {};
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    typename Lanes::Sums v[kTokens][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const int r = 4 * half + i;
      const Block* block = reinterpret_cast<const Block*>(tile.rows[r] + at);
      fetch_lines(ahead, r * kStepBytes / 512, (r + 1) * kStepBytes / 512);
      const auto bytes = two_blocks(block[0], block[kSecond]);
      for (int t = 0; t < kTokens; t++) v[t][i] = Lanes::multiply(bytes, qx[t]);
      d[0] = insert_word(d[0], block[0].d, r);
      d[1] = insert_word(d[1], block[kSecond].d, r);
      if constexpr (F::kHasMin) {
        m[0] = insert_word(m[0], block[0].m, r);
        m[1] = insert_word(m[1], block[kSecond].m, r);
      }
    }
    for (int t = 0; t < kTokens; t++) parts[t][half] = Lanes::four_rows(v[t]);
  }
  const __m512 dw = _mm512_cvtph_ps(_mm256_set_m128i(d[1], d[0]));
  [[maybe_unused]] __m512 min;
  if constexpr (F::kHasMin) min = _mm512_cvtph_ps(_mm256_set_m128i(m[1], m[0]));
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t;
    // Eight rows of the first block, eight of the second.
    __m512i isum = Lanes::eight_rows(parts[t][0], parts[t][1]);
    if constexpr (kOffset != 0) {
      const int16_t* s = x.sums16 + token * x.sums_stride + 2 * b;
      const int32_t s0 = kOffset * (s[0] + s[1]), s1 = kOffset * (s[2 * kSecond] + s[2 * kSecond + 1]);
      isum = _mm512_sub_epi32(isum, _mm512_inserti64x4(_mm512_set1_epi32(s0), _mm256_set1_epi32(s1), 1));
    }
    const float* dx = x.scale + token * x.scale_stride + b;
    const __m512 step = _mm512_mul_ps(dw, two_floats(dx[0], dx[kSecond])), sum = _mm512_cvtepi32_ps(isum);
    acc[t] = _mm256_fmadd_ps(_mm512_castps512_ps256(step), _mm512_castps512_ps256(sum), acc[t]);
    // weighted_sum is null without minima, so nothing is added to it there.
    [[maybe_unused]] const int64_t sum_at = token * x.scale_stride + b;
    if constexpr (F::kHasMin)
      acc[t] = _mm256_fmadd_ps(_mm512_castps512_ps256(min), _mm256_set1_ps(x.weighted_sum[sum_at]), acc[t]);
    if constexpr (kTwo) {
      acc[t] = _mm256_fmadd_ps(_mm512_extractf32x8_ps(step, 1), _mm512_extractf32x8_ps(sum, 1), acc[t]);
      if constexpr (F::kHasMin)
        acc[t] = _mm256_fmadd_ps(_mm512_extractf32x8_ps(min, 1), _mm256_set1_ps(x.weighted_sum[sum_at + 1]),
                                 acc[t]);
    }
  }
}

template <class F, int kTokens>
static void wide_blocks32(const Tile& shared_tile, float out[][kTileRows]) {
  const Tile tile = shared_tile;  // a copy, so that the compiler keeps the rows in registers
  constexpr int kStepBytes = 2 * kTileRows * static_cast<int>(sizeof(typename F::Block));
  const int64_t blocks = tile.cols / kBlockSize;
  const uint8_t* ahead = tile.rows[0] + tile.prefetch + kFetchLead;
  __m256 acc[kTokens];
  for (int t = 0; t < kTokens; t++) acc[t] = _mm256_setzero_ps();
  int64_t b = 0;
  for (; b + 1 < blocks; b += 2, ahead += kStepBytes) wide_step32<F, kTokens, true>(tile, b, ahead, acc);
  if (b < blocks) wide_step32<F, kTokens, false>(tile, b, ahead, acc);
  for (int t = 0; t < kTokens; t++) _mm256_storeu_ps(out[t], acc[t]);
}

// ---- super-blocks of 256: 64 bytes four times, and the scales as 16-bit words that meet packed pairs ----

/// A block's scales, arranged for words[i] = packs(products of bytes 128i .. 128i + 63, of the next 64).
struct ScaleWords {
  __m512i words[2];
};

// Sixteen scales of groups of 16: lane l of words[i] wants scale 8i + l four times, then scale 8i + 4 + l.
CRIA_INLINE ScaleWords spread_scales16(__m256i scales) {
  const __m512i wide = _mm512_castsi256_si512(scales);
  alignas(64) static constexpr uint16_t kIndex[32] = {0, 0, 0, 0, 4, 4, 4, 4, 1, 1, 1, 1, 5, 5, 5, 5,
                                                      2, 2, 2, 2, 6, 6, 6, 6, 3, 3, 3, 3, 7, 7, 7, 7};
  const __m512i index = _mm512_load_si512(kIndex);
  return {{_mm512_permutexvar_epi16(index, wide),
           _mm512_permutexvar_epi16(_mm512_add_epi16(index, _mm512_set1_epi16(8)), wide)}};
}
CRIA_INLINE __m512i both_halves(const uint8_t* p32) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p32)));
}
// n bits to the right in the lower half, m in the upper.
CRIA_INLINE __m512i shift_halves(__m512i v, int n, int m) {
  const __m512i by = _mm512_inserti64x4(_mm512_set1_epi16(static_cast<short>(n)),
                                        _mm256_set1_epi16(static_cast<short>(m)), 1);
  return _mm512_srlv_epi16(v, by);
}
CRIA_INLINE __m512i shift_halves_left(__m512i v, int n, int m) {
  const __m512i by = _mm512_inserti64x4(_mm512_set1_epi16(static_cast<short>(n)),
                                        _mm256_set1_epi16(static_cast<short>(m)), 1);
  return _mm512_sllv_epi16(v, by);
}
/// Elements 64p .. 64p + 63 as unsigned bytes.
CRIA_INLINE __m512i quarter(const BlockQ6_K& b, int p) {
  const __m512i low = _mm512_loadu_si512(b.ql + 64 * (p / 2)), high = both_halves(b.qh + 32 * (p / 2));
  if (p % 2 == 0) return _mm512_or_si512(keep(low, 15), keep(shift_halves_left(high, 4, 2), 0x30));
  return _mm512_or_si512(keep(_mm512_srli_epi16(low, 4), 15), keep(shift_halves(high, 0, 2), 0x30));
}
CRIA_INLINE __m512i quarter(const BlockQ2_K& b, int p) {
  return keep(shift_halves(both_halves(b.qs + 32 * (p / 2)), 4 * (p % 2), 4 * (p % 2) + 2), 3);
}
CRIA_INLINE __m512i quarter(const BlockQ3_K& b, int p) {
  const __m512i low = keep(shift_halves(both_halves(b.qs + 32 * (p / 2)), 4 * (p % 2), 4 * (p % 2) + 2), 3);
  const __m512i high = keep(shift_halves(both_halves(b.hmask), 2 * p, 2 * p + 1), 1);
  return _mm512_or_si512(low, _mm512_slli_epi16(high, 2));
}

/// Scales, and what goes with the activations' sums of 16 (see block256_sums).
template <class F>
CRIA_INLINE ScaleWords scale_words(const typename F::Block& b, __m256i& with_sums) {
  if constexpr (requires { b.scales[15]; } && sizeof(b.scales) == 16 && !F::kHasMin) {  // Q6_K: signed bytes
    with_sums = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b.scales)));
    return spread_scales16(with_sums);
  } else if constexpr (F::kHasMin) {  // Q2_K: nibbles
    const __m256i both = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b.scales)));
    with_sums = _mm256_srli_epi16(both, 4);
    return spread_scales16(_mm256_and_si256(both, _mm256_set1_epi16(15)));
  } else {  // Q3_K
    // q3_k_scales() in a register.
    uint32_t w[3];
    __builtin_memcpy(w, b.scales, 12);
    const __m128i low = _mm_and_si128(_mm_set_epi32(static_cast<int>(w[1] >> 4), static_cast<int>(w[0] >> 4),
                                                    static_cast<int>(w[1]), static_cast<int>(w[0])),
                                      _mm_set1_epi8(15));
    const __m128i high =
        _mm_and_si128(_mm_set_epi32(static_cast<int>(w[2] >> 2), static_cast<int>(w[2]),
                                    static_cast<int>(w[2] << 2), static_cast<int>(w[2] << 4)),
                      _mm_set1_epi8(0x30));
    with_sums = _mm256_cvtepi8_epi16(_mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32)));
    return spread_scales16(with_sums);
  }
}

// A row's block with one token: sixteen lanes that add up to the integer sum. Sums of four products fit the
// 16 bits of the packed words: at most 4 * 63 * 127.
CRIA_INLINE __m512i block_lanes(const __m512i bytes[4], const ScaleWords& s, const int8_t* q) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i p0 = _mm512_dpbusd_epi32(zero, bytes[0], _mm512_loadu_si512(q));
  const __m512i p1 = _mm512_dpbusd_epi32(zero, bytes[1], _mm512_loadu_si512(q + 64));
  const __m512i p2 = _mm512_dpbusd_epi32(zero, bytes[2], _mm512_loadu_si512(q + 128));
  const __m512i p3 = _mm512_dpbusd_epi32(zero, bytes[3], _mm512_loadu_si512(q + 192));
  const __m512i first = _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(p0, p1), s.words[0]);
  return _mm512_dpwssd_epi32(first, _mm512_packs_epi32(p2, p3), s.words[1]);
}

template <class F, int kTokens>
static void wide_blocks256(const Tile& tile, float out[][kTileRows]) {
  using Block = typename F::Block;
  constexpr int kStepBytes = kTileRows * static_cast<int>(sizeof(Block));
  const ActivationRows& x = *tile.x;
  const int8_t* q = x.q + tile.token * x.cols;
  const float* scale = x.scale + tile.token * x.scale_stride;
  const int16_t* sums = x.sums16 + tile.token * x.sums_stride;
  const int64_t blocks = tile.cols / kSuperBlockSize;
  const uint8_t* ahead = tile.rows[0] + tile.prefetch + kFetchLead;
  __m256 acc[kTokens];
  for (int t = 0; t < kTokens; t++) acc[t] = _mm256_setzero_ps();
  for (int64_t b = 0; b < blocks; b++, ahead += kStepBytes) {
    __m512i parts[kTokens][2];
    I32x8 msum[kTokens][kTileRows];
    __m128i d = {}, dmin = {};
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      __m512i v[kTokens][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        const int r = 4 * half + i;
        const Block& block = *(reinterpret_cast<const Block*>(tile.rows[r]) + b);
        fetch_lines(ahead, r * kStepBytes / 512, (r + 1) * kStepBytes / 512);
        __m256i with_sums;
        const ScaleWords s = scale_words<F>(block, with_sums);
        const __m512i bytes[4] = {quarter(block, 0), quarter(block, 1), quarter(block, 2), quarter(block, 3)};
        for (int t = 0; t < kTokens; t++) {
          v[t][i] = block_lanes(bytes, s, q + t * x.cols + kSuperBlockSize * b);
          const __m256i m = _mm256_madd_epi16(
              with_sums,
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + t * x.sums_stride + 16 * b)));
          if constexpr (F::kHasMin) {
            msum[t][r] = {m};
          } else {
            const __m256i offset = _mm256_slli_epi32(m, __builtin_ctz(F::kOffset | 256));
            v[t][i] = _mm512_sub_epi32(v[t][i], _mm512_zextsi256_si512(offset));
          }
        }
        d = insert_word(d, block.d, r);
        if constexpr (F::kHasMin) dmin = insert_word(dmin, min_scale(block), r);
      }
      for (int t = 0; t < kTokens; t++) parts[t][half] = sum_within_lanes(v[t]);
    }
    const __m256 dw = _mm256_cvtph_ps(d);
    for (int t = 0; t < kTokens; t++) {
      const __m512i pairs = _mm512_add_epi32(_mm512_shuffle_i32x4(parts[t][0], parts[t][1], 0x88),
                                             _mm512_shuffle_i32x4(parts[t][0], parts[t][1], 0xdd));
      const __m512i ordered = _mm512_shuffle_i32x4(pairs, pairs, 0xd8);
      const __m256i isum =
          _mm256_add_epi32(_mm512_castsi512_si256(ordered), _mm512_extracti64x4_epi64(ordered, 1));
      const __m256 dx = _mm256_set1_ps(scale[t * x.scale_stride + b]), sum = _mm256_cvtepi32_ps(isum);
      if constexpr (F::kHasMin) {
        const __m256 step =
            _mm256_fnmadd_ps(_mm256_cvtph_ps(dmin), to_f32(transpose_sum(msum[t])).v, _mm256_mul_ps(dw, sum));
        acc[t] = _mm256_fmadd_ps(dx, step, acc[t]);
      } else {
        acc[t] = _mm256_fmadd_ps(_mm256_mul_ps(dw, dx), sum, acc[t]);
      }
    }
  }
  for (int t = 0; t < kTokens; t++) _mm256_storeu_ps(out[t], acc[t]);
}

}  // namespace cria::CRIA_ISA
