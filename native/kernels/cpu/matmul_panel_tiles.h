// Tiles of matmul_panels.h: 32 interleaved rows by a few tokens, a run of blocks at a time. Compiled per
// level.
#pragma once

#include "kernels/cpu/matmul_formats.h"

namespace cria::CRIA_ISA {

// Tokens of a tile at most, and few: no more than the memory keeps up with. Sanitizers, which slow the
// compiler down, see the same code in smaller tiles.
#if defined(CRIA_SMALL_TILES)
constexpr int kMostTokens = 2, kStreamTokens = 1;
#else
constexpr int kMostTokens = kTileTokens, kStreamTokens = 3;
#endif
constexpr int kManyBlocks = 64;  // of 32 columns: a run for many tokens

/// What unsigned bytes have too much. Formats with a minimum have none.
template <class F>
constexpr int kUnsignedOffset = F::kSigned ? kSignedOffset : F::kOffset;

/// Lines that a tile fetches while it computes, a few at a step.
struct Fetch {
  const uint8_t* next;
  int lines_per_step;

  inline __attribute__((always_inline)) void step() {
    const uint8_t* stop = next + 64 * lines_per_step;
    for (; next < stop; next += 64) prefetch(next);
  }
};

/// The most that a format's products are shifted by. Scales for tiles make up for it, so that all have it in
/// common, and a block's sum is shifted once.
template <class F>
constexpr int kMostShift = F::shift(F::kInner - 1);

/// Scales of a panel's block, for tiles of many tokens.
template <int kGroups>
struct alignas(64) PanelScales {
  int32_t scale[kGroups][kPanelRows];
  int32_t min[kGroups / 2][kPanelRows];  // two words each
  float d[kPanelRows], minus_dmin[kPanelRows];
};

struct PanelTile {
  const uint8_t* panel;  // the run's first block
  const void* scales;    // of super-blocks: PanelScales
  int64_t first_block;
  int blocks;
  const ActivationRows* x;
  int64_t n_tokens, token;    // of x; the tile's first
  float (*sums)[kPanelRows];  // of the columns before, to which the run's are added
  Fetch fetch;
};

CRIA_INLINE I32x16 meet(bool is_signed, I32x16 acc, I32x16 w, Bytes4 x) {
  return is_signed ? dot_signed(acc, w, x) : dot_bytes(acc, w, x);
}

/// acc[t][h] += sixteen rows x 4 * kSteps columns of token t. bytes(h, k): columns 4k .. 4k + 3 of half h;
/// q(t): the token's activations.
template <class F, int kTokens, int kSteps, int kHalves, class Bytes, class Activations>
CRIA_INLINE void multiply_group(Bytes bytes, Activations q, I32x16 (&acc)[kTokens][kHalves]) {
  CRIA_UNROLL(8)
  for (int k = 0; k < kSteps; k++) {
    I32x16 w[kHalves];
    CRIA_UNROLL(2)
    for (int h = 0; h < kHalves; h++) {
      w[h] = bytes(h, k);
      if (F::kSigned) w[h] = signed_bytes(w[h]);
      pin(w[h]);  // or gcc 12 loads it again for every token
    }
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      const Bytes4 v = broadcast4(q(t) + 4 * k);
      CRIA_UNROLL(2)
      for (int h = 0; h < kHalves; h++) acc[t][h] = meet(F::kSigned, acc[t][h], w[h], v);
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
        CRIA_UNROLL(8)
        for (int i = 0; i < 8; i++) start[t][b + i] = -kUnsignedOffset<F> * of_32[i];
      }
    }
  }
  const float* scale = x.scale + tile.token * x.scale_stride + tile.first_block;
  const float* weighted =
      F::kHasMin ? x.weighted_sum + tile.token * x.scale_stride + tile.first_block : nullptr;
  for (int first = 0; first < 2; first += kTileHalves) {
    F32x16 acc[kTokens][kTileHalves];
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) acc[t][h] = load(tile.sums[t] + 16 * (first + h));
    Fetch fetch = tile.fetch;
    for (int b = 0; b < tile.blocks; b++) {
      if (first == 0) fetch.step();
      HalfBlock block[kTileHalves];
      for (int h = 0; h < kTileHalves; h++) block[h] = {tile.panel + b * kPanelBlockBytes<F>, first + h};
      I32x16 isum[kTokens][kTileHalves];
      for (int t = 0; t < kTokens; t++)
        for (int h = 0; h < kTileHalves; h++)
          isum[t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? start[t][b] : 0);
      multiply_group<F, kTokens, 8>([&](int h, int k) { return F::bytes(block[h], k); },
                                    [&](int t) { return q[t] + 32 * b; }, isum);
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const F32x16 d = F::d(block[h]);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const F32x16 dx = set1(scale[t * x.scale_stride + b]);
          acc[t][h] = fma(mul(d, dx), to_f32(isum[t][h]), acc[t][h]);
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

/// A tile's activations of one super-block, and their sums: by groups, two words to a dword, which meet the
/// mins, or times what the offset of the bytes adds to the products, taken off.
template <class F, int kTokens>
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
        if constexpr (F::kGroups == 16)
          store_lanes(start[t], mul(widen_words(sums), set1_lanes(-kUnsignedOffset<F>)));
        else
          for (int g = 0; g < 8; g++) start[t][g] = -kUnsignedOffset<F> * of_32[g];
      }
    }
    asm("" : : "r"(pairs), "r"(start) : "memory");  // they stay in memory, where broadcasts are free
  }
};

/// Part kPart of group(outer, kI): isum += scale * sum of products. scale(h, g): of group g, half h.
template <class F, int kTokens, int kHalves, int kFirst, int kI, int kPart, class Scale>
CRIA_INLINE void add_group(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                           Scale scale, I32x16 (&isum)[kTokens][kHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts;
  const int64_t group = F::kInner * outer + kI, scaled = kParts * group + kPart;
  asm("" : "+r"(panel));  // or gcc keeps what other groups loaded from here in registers that it lacks
  const int8_t* q = x.q + 32 * group + 4 * kSteps * kPart;
  I32x16 products[kTokens][kHalves];
  CRIA_UNROLL(8)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++)
    products[t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? x.start[t][scaled] : 0);
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) { return F::bytes(HalfBlock{panel, kFirst + h}, outer, kI, kSteps * kPart + k); },
      [&](int t) { return q + kSuperBlockSize * t; }, products);
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const I32x16 s = scale(h, scaled);
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) isum[t][h] = add(isum[t][h], mul(products[t][h], s));
  }
}
/// Groups (outer, kI) and those after it.
template <class F, int kTokens, int kHalves, int kFirst, int kI, class Scale>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                            Fetch& fetch, Scale scale, I32x16 (&isum)[kTokens][kHalves]) {
  if (kFirst == 0) fetch.step();
  add_group<F, kTokens, kHalves, kFirst, kI, 0>(panel, x, outer, scale, isum);
  if constexpr (F::kGroups == 16) add_group<F, kTokens, kHalves, kFirst, kI, 1>(panel, x, outer, scale, isum);
  if constexpr (kI + 1 < F::kInner)
    add_groups<F, kTokens, kHalves, kFirst, kI + 1>(panel, x, outer, fetch, scale, isum);
}

/// The float step of a block: what it adds to `before`.
template <class F>
CRIA_INLINE F32x16 block_step(F32x16 before, F32x16 d, F32x16 minus_dmin, float scale, F32x16 sum, I32x16 m) {
  const F32x16 dx = set1(scale);
  if constexpr (F::kHasMin) return fma(dx, fma(minus_dmin, to_f32(m), mul(d, sum)), before);
  return fma(mul(d, dx), sum, before);
}

/// Halves kFirst .. kFirst + kHalves - 1 of a block's rows, with scales from memory.
template <class F, int kTokens, int kHalves, int kFirst>
CRIA_INLINE void add_super_block(const PanelTile& tile, const SuperActivations<F, kTokens>& x) {
  const auto& s = *static_cast<const PanelScales<F::kGroups>*>(tile.scales);
  I32x16 isum[kTokens][kHalves];
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < kHalves; h++) isum[t][h] = set1_lanes(0);
  Fetch fetch = tile.fetch;
  for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
    asm("" : "+r"(outer));  // a real loop: unrolled it overflows the cache of decoded instructions
    add_groups<F, kTokens, kHalves, kFirst, 0>(
        tile.panel, x, outer, fetch,
        [&](int h, int64_t g) { return load_lanes(s.scale[g] + 16 * (kFirst + h)); }, isum);
  }
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const int row = 16 * (kFirst + h);
    I32x16 m[kTokens];
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) m[t] = set1_lanes(0);
    CRIA_UNROLL(8)
    for (int j = 0; j < F::kGroups / 2 && F::kHasMin; j++) {
      const I32x16 min = load_lanes(s.min[j] + row);
      CRIA_UNROLL(8)
      for (int t = 0; t < kTokens; t++) m[t] = dot_words(m[t], min, x.pairs[t][j]);
    }
    const F32x16 d = load(s.d + row), minus_dmin = load(s.minus_dmin + row);
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      const F32x16 sum = to_f32(kMostShift<F> ? right_signed(isum[t][h], kMostShift<F>) : isum[t][h]);
      store(tile.sums[t] + row,
            block_step<F>(load(tile.sums[t] + row), d, minus_dmin, x.scale[t], sum, m[t]));
    }
  }
}

// One block, for any number of tokens.
template <class F, int kTokens>
static void tile_blocks256(const PanelTile& tile) {
  const SuperActivations<F, kTokens> x(*tile.x, tile.n_tokens, tile.token, tile.first_block);
  // Groups of sixteen columns bring sums and scales twice as often: of sixteen rows the registers hold them.
  constexpr int kHalves = F::kGroups == 16 && kTokens > 3 ? 1 : kTileHalves;
  add_super_block<F, kTokens, kHalves, 0>(tile, x);
  if constexpr (kHalves == 1) add_super_block<F, kTokens, kHalves, 1>(tile, x);
}

}  // namespace cria::CRIA_ISA
