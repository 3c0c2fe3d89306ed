// Tiles of matmul_panels.h: 32 repacked rows by a few tokens, a run of blocks at a time. Compiled per
// level.
#pragma once

#include "kernels/cpu/matmul_formats.h"

namespace cria::CRIA_ISA {

// Tokens of a tile at most, of super-blocks and of blocks of 32; and few: no more than the memory keeps up
// with. Sanitizers, which slow the compiler down, see the same code in smaller tiles.
#if defined(CRIA_SMALL_TILES)
constexpr int kMaxTokens = 2, kMaxTokens32 = 2, kStreamTokens = 1;
#else
constexpr int kMaxTokens = kTileSums, kMaxTokens32 = kTileSums / kTileHalves, kStreamTokens = 3;
#endif
constexpr int kManyBlocks = 64;  // of 32 columns: a run for many tokens

/// What unsigned bytes have too much. Formats with a minimum have none.
template <class F>
constexpr int kUnsignedOffset = F::kSigned ? kSignedOffset : F::kOffset;

/// Lines that a tile fetches while it computes, a few at a step.
struct Fetch {
  const uint8_t *next, *end;
  int64_t bytes_per_step = 0;

  /// So many steps are to come.
  CRIA_METHOD void divide(int steps) { bytes_per_step = ((end - next) / 64 + steps - 1) / steps * 64; }
  CRIA_METHOD void step() {
    const uint8_t* stop = next + bytes_per_step < end ? next + bytes_per_step : end;
    for (; next < stop; next += 64) prefetch(next);
  }
};

/// The most that a format's products are shifted by. Scales for tiles make up for it, so that all have it in
/// common, and a block's sum is shifted once.
template <class F>
constexpr int kMaxShift = F::shift(F::kInner - 1);

/// The most that the magnitudes of sixteen activations may add up to if a group's sum is to fit sixteen bits.
template <class F>
constexpr int kMaxAbsSum16 = 32767 / (F::kMaxAbsWeight * 16 / F::kGroups);
/// Whether groups 2j and 2j + 1 meet their scales at once, as words of a dword: where their sums nearly
/// always fit. (Of 256 normally distributed activations, the largest 127, sixteen have about 600; one block
/// in a thousand has sixteen with 1023.)
template <class F>
constexpr bool kPairs = kPairsOfSums && kMaxAbsSum16<F> > 1000;

struct PanelTile {
  const uint8_t* panel;  // the run's first block
  int64_t first_block;
  int blocks;
  const ActivationRows* x;
  int64_t n_tokens, token;    // of x; the tile's first
  float (*sums)[kPanelRows];  // of the columns before, to which the run's are added
  Fetch fetch;
};

CRIA_INLINE I32x16 dot(bool is_signed, I32x16 acc, I32x16 w, Bytes4 x) {
  return is_signed ? dot_signed(acc, w, x) : dot_bytes(acc, w, x);
}

/// acc[t][h] += sixteen rows x 4 * kSteps columns of token t. bytes(h, k): columns 4k .. 4k + 3 of half h;
/// q(t): the token's activations.
template <class F, int kTokens, int kSteps, int kHalves, class Bytes, class Activations>
CRIA_INLINE void multiply_group(Bytes bytes, Activations q, I32x16 (&acc)[kTokens][kHalves]) {
  CRIA_UNROLL(16)
  for (int k = 0; k < kSteps; k++) {
    I32x16 w[kHalves];
    CRIA_UNROLL(2)
    for (int h = 0; h < kHalves; h++) {
      w[h] = bytes(h, k);
      if (F::kSigned) w[h] = signed_bytes(w[h]);
      pin(w[h]);  // or gcc 12 loads it again for every token
    }
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) {
      const Bytes4 v = broadcast4(q(t) + 4 * k);
      CRIA_UNROLL(2)
      for (int h = 0; h < kHalves; h++) acc[t][h] = dot(F::kSigned, acc[t][h], w[h], v);
    }
  }
}

template <class F, int kTokens>
static void tile_blocks32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const int8_t* q[kTokens];
  // Where a block's sum starts: at what the offset of the bytes adds to it, taken off.
  int32_t start[kTokens][kManyBlocks];
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t;
    q[t] = x.q + token * x.stride + kBlockSize * tile.first_block;
    const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * tile.first_block;
    if constexpr (kUnsignedOffset<F> != 0) {
      for (int b = 0; b < tile.blocks; b += 8) {  // a row of sums is padded to a multiple of eight blocks
        int16_t of_32[8];
        add_pairs(sums + 2 * b, of_32);
        CRIA_UNROLL(16)
        for (int i = 0; i < 8; i++) start[t][b + i] = -kUnsignedOffset<F> * of_32[i];
      }
    }
  }
  const float* scale = x.scale + tile.token * x.scale_stride + tile.first_block;
  const float* weighted =
      F::kHasMin ? x.weighted_sum + tile.token * x.scale_stride + tile.first_block : nullptr;
  Fetch fetch = tile.fetch;
  fetch.divide(2 / kTileHalves * tile.blocks);
  for (int first = 0; first < 2; first += kTileHalves) {
    F32x16 acc[kTokens][kTileHalves];
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) acc[t][h] = load(tile.sums[t] + 16 * (first + h));
    for (int b = 0; b < tile.blocks; b++) {
      fetch.step();
      HalfBlock block[kTileHalves];
      for (int h = 0; h < kTileHalves; h++) block[h] = {tile.panel + b * kPanelBlockBytes<F>, first + h};
      I32x16 isum[kTokens][kTileHalves];
      for (int t = 0; t < kTokens; t++)
        for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1(kUnsignedOffset<F> != 0 ? start[t][b] : 0);
      multiply_group<F, kTokens, 8>([&](int h, int k) { return F::bytes(block[h], k); },
                                    [&](int t) { return q[t] + 32 * b; }, isum);
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const F32x16 d = F::d(block[h]);
        CRIA_UNROLL(16)
        for (int t = 0; t < kTokens; t++) {
          const F32x16 dx = set1(scale[t * x.scale_stride + b]);
          acc[t][h] = fma(d * dx, to_f32(isum[t][h]), acc[t][h]);
          if constexpr (F::kHasMin)
            acc[t][h] = fma(F::m(block[h]), set1(weighted[t * x.scale_stride + b]), acc[t][h]);
        }
      }
    }
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) store(tile.sums[t] + 16 * (first + h), acc[t][h]);
  }
}

// ---- super-blocks ----

/// Added to a dword whose low word is signed, so that it leaves the high word alone.
constexpr int32_t kLowWord = 0x8000;
alignas(64) constexpr int32_t kLowWords[16] = {kLowWord, 0, kLowWord, 0, kLowWord, 0, kLowWord, 0,
                                               kLowWord, 0, kLowWord, 0, kLowWord, 0, kLowWord, 0};

/// A tile's activations of one super-block, and their sums: by groups, two words to a dword, which meet the
/// mins, or times what the offset of the bytes adds to the products, taken off (for add_pair kLowWord is
/// added to every other one).
template <class F, int kTokens, bool kForPairs = false>
struct SuperActivations {
  const int8_t* q;  // token t's at q + 256 t
  const float* scale;
  alignas(64) int32_t pairs[kTokens][8], start[kTokens][16];

  CRIA_METHOD SuperActivations(const ActivationRows& x, int64_t n_tokens, int64_t token, int64_t block) {
    const int64_t at = block * n_tokens + token;
    q = x.q + kSuperBlockSize * at;
    scale = x.scale + at;
    for (int t = 0; t < kTokens; t++) {
      const int16_t* sums = x.sums16 + 16 * (at + t);
      int16_t of_32[8];
      if constexpr (F::kGroups == 8) add_pairs(sums, of_32);
      if constexpr (F::kHasMin) __builtin_memcpy(pairs[t], F::kGroups == 8 ? of_32 : sums, 2 * F::kGroups);
      if constexpr (kUnsignedOffset<F> != 0) {
        if constexpr (F::kGroups == 16) {
          const I32x16 from = load_i16(sums) * -kUnsignedOffset<F>;
          store(start[t], kForPairs ? from + load_i32(kLowWords) : from);
        } else {
          static_assert(!kForPairs, "no format has eight groups, an offset and sums that fit sixteen bits");
          for (int g = 0; g < 8; g++) start[t][g] = -kUnsignedOffset<F> * of_32[g];
        }
      }
    }
    asm("" : : "r"(pairs), "r"(start) : "memory");  // they stay in memory, where broadcasts are free
  }
};

/// Part kPart of group(outer, kI): isum += scale * sum of products, times 2^kMaxShift.
template <class F, int kTokens, int kHalves, int kFirst, int kI, int kPart>
CRIA_INLINE void add_group(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                           I32x16 (&isum)[kTokens][kHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts;
  const int64_t group = F::kInner * outer + kI, scaled = kParts * group + kPart;
  asm("" : "+r"(panel));  // or gcc keeps what other groups loaded from here in registers that it lacks
  const int8_t* q = x.q + 32 * group + 4 * kSteps * kPart;
  I32x16 products[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) products[t][h] = set1(kUnsignedOffset<F> != 0 ? x.start[t][scaled] : 0);
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) { return F::bytes(HalfBlock{panel, kFirst + h}, outer, kI, kSteps * kPart + k); },
      [&](int t) { return q + kSuperBlockSize * t; }, products);
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const I32x16 s = F::scale_at(HalfBlock{panel, kFirst + h}, scaled) << (kMaxShift<F> - F::shift(kI));
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) isum[t][h] += products[t][h] * s;
  }
}
/// Groups (outer, kI) and those after it.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                            Fetch& fetch, I32x16 (&isum)[kTokens][kHalves]) {
  fetch.step();
  add_group<F, kTokens, kHalves, kFirst, kI, 0>(panel, x, outer, isum);
  if constexpr (F::kGroups == 16) add_group<F, kTokens, kHalves, kFirst, kI, 1>(panel, x, outer, isum);
  if constexpr (kI + 1 < F::kInner)
    add_groups<F, kTokens, kHalves, kFirst, kI + 1>(panel, x, outer, fetch, isum);
}

/// sums += group 2j + kOdd, which is kOdd of `outer`'s two, or (sixteen groups) of those of (outer, kI).
template <class F, int kTokens, int kHalves, int kFirst, int kI, int kOdd>
CRIA_INLINE void multiply_one_of_pair(const uint8_t* panel, const int8_t* q, int64_t outer,
                                      I32x16 (&sums)[kTokens][kHalves]) {
  constexpr int kSteps = 64 / F::kGroups;
  asm("" : "+r"(panel));  // or gcc keeps what the other one loaded from here in registers that it lacks
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) {
        const HalfBlock block{panel, kFirst + h};
        if constexpr (F::kGroups == 16) return F::low_bytes(block, outer, kI, kSteps * kOdd + k);
        return F::bytes(block, outer, kOdd, k);
      },
      [&](int t) { return q + kSuperBlockSize * t + 4 * kSteps * kOdd; }, sums);
}

/// Groups 2j and 2j + 1, whose sums fit sixteen bits: isum += scale * sum of products, of both in one
/// instruction. The odd group's sum moves to the high words, and the even one's adds up below it.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_pair(const uint8_t* panel, const SuperActivations<F, kTokens, true>& x, int64_t outer,
                          I32x16 (&isum)[kTokens][kHalves]) {
  constexpr bool kStarts = kUnsignedOffset<F> != 0;
  constexpr int kShift = F::kGroups == 16 ? 0 : F::shift(1);
  const int64_t j = F::kGroups == 16 ? F::kInner * outer + kI : outer;
  const int8_t* q = x.q + 512 / F::kGroups * j;
  I32x16 sums[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) sums[t][h] = set1(kStarts ? x.start[t][2 * j + 1] : 0);
  multiply_one_of_pair<F, kTokens, kHalves, kFirst, kI, 1>(panel, q, outer, sums);
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++)
    sums[t][h] = (sums[t][h] << (16 - kShift)) + set1(kStarts ? x.start[t][2 * j] : kLowWord);
  multiply_one_of_pair<F, kTokens, kHalves, kFirst, kI, 0>(panel, q, outer, sums);
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const I32x16 s = scales_of<F>(F::scale_bits(HalfBlock{panel, kFirst + h}, 2 * j));
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) isum[t][h] = dot_i16(isum[t][h], sums[t][h] ^ kLowWord, s);
  }
}
/// The pairs of `outer` from kI on.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens, true>& x, int64_t outer,
                            Fetch& fetch, I32x16 (&isum)[kTokens][kHalves]) {
  fetch.step();
  if (F::kGroups == 8) fetch.step();
  add_pair<F, kTokens, kHalves, kFirst, kI>(panel, x, outer, isum);
  if constexpr (F::kGroups == 16 && kI + 1 < F::kInner)
    add_groups<F, kTokens, kHalves, kFirst, kI + 1>(panel, x, outer, fetch, isum);
}

/// The float step of a block: what it adds to `before`.
template <class F>
CRIA_INLINE F32x16 block_step(F32x16 before, F32x16 d, F32x16 minus_dmin, float scale, F32x16 sum, I32x16 m) {
  const F32x16 dx = set1(scale);
  if constexpr (F::kHasMin) return fma(dx, fma(minus_dmin, to_f32(m), d * sum), before);
  return fma(d * dx, sum, before);
}

/// Halves kFirst .. kFirst + kHalves - 1 of a block's rows.
template <class F, int kHalves, int kFirst, int kTokens, bool kByPairs>
CRIA_INLINE void add_super_block(const PanelTile& tile, const SuperActivations<F, kTokens, kByPairs>& x,
                                 Fetch& fetch) {
  I32x16 isum[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) isum[t][h] = set1(0);
  for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
    asm("" : "+r"(outer));  // a real loop: unrolled it overflows the cache of decoded instructions
    add_groups<F, kTokens, kHalves, kFirst, 0>(tile.panel, x, outer, fetch, isum);
  }
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    typename F::Header header;
    header.read(HalfBlock{tile.panel, kFirst + h});
    I32x16 m[kTokens];
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) m[t] = set1(0);
    F32x16 minus_dmin = set1(0.0f);
    if constexpr (F::kHasMin) {
      minus_dmin = header.minus_dmin();
      CRIA_UNROLL(16)
      for (int j = 0; j < F::kGroups / 2; j++) {
        const I32x16 min = header.min_pair(j);
        CRIA_UNROLL(16)
        for (int t = 0; t < kTokens; t++) m[t] = dot_i16(m[t], min, x.pairs[t][j]);
      }
    }
    const F32x16 d = header.d();
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) {
      constexpr int kShift = kByPairs ? 0 : kMaxShift<F>;
      const F32x16 sum = to_f32(kShift ? shift_right_signed(isum[t][h], kShift) : isum[t][h]);
      float* to = tile.sums[t] + 16 * (kFirst + h);
      store(to, block_step<F>(load(to), d, minus_dmin, x.scale[t], sum, m[t]));
    }
  }
}

template <class F, int kTokens, bool kByPairs>
CRIA_INLINE void add_tile256(const PanelTile& tile) {
  const SuperActivations<F, kTokens, kByPairs> x(*tile.x, tile.n_tokens, tile.token, tile.first_block);
  // Beyond what registers hold of two halves, one half at a time. Weights that several dwords make up take
  // registers too.
  constexpr int kSums = kTileSums - (F::kGroups == 16 && kTileHalves > 1 ? 4 : 0);
  constexpr int kHalves = kTileHalves * kTokens <= kSums ? kTileHalves : 1;
  Fetch fetch = tile.fetch;
  fetch.divide(8 * 2 / kHalves);
  add_super_block<F, kHalves, 0>(tile, x, fetch);
  if constexpr (kHalves == 1) add_super_block<F, 1, 1>(tile, x, fetch);
}

/// A tile with activations so large that a group's sum may not fit sixteen bits: rare, hence small code, of
/// two tokens at a time.
template <class F>
static __attribute__((noinline)) void add_wide_tile256(PanelTile tile, int tokens) {
  for (; tokens > 0; tokens -= 2, tile.token += 2, tile.sums += 2, tile.fetch.next = tile.fetch.end) {
    if (tokens > 1)
      add_tile256<F, 2, false>(tile);
    else
      add_tile256<F, 1, false>(tile);
  }
}

// One block, for any number of tokens.
template <class F, int kTokens>
static void tile_blocks256(const PanelTile& tile) {
  if constexpr (kPairs<F> && kMaxAbsSum16<F> < 16 * 127) {
    const int16_t* max_abs_sum16 = tile.x->max_abs_sum16 + tile.first_block * tile.n_tokens + tile.token;
    int most = 0;
    for (int t = 0; t < kTokens; t++) most = max_abs_sum16[t] > most ? max_abs_sum16[t] : most;
    if (most > kMaxAbsSum16<F>) return add_wide_tile256<F>(tile, kTokens);
  }
  add_tile256<F, kTokens, kPairs<F>>(tile);
}

}  // namespace cria::CRIA_ISA
