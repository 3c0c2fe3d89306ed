// The tiles of matmul_panels.h: 32 repacked rows by up to twelve tokens, over a run of blocks. Compiled once
// per ISA level.
//
// A tile keeps its integer sums in registers: rows along the lanes, so a panel's 32 rows are two halves of
// sixteen, and a tile holds one or both: one or two vectors a token. Each weight vector is unpacked once and
// multiplied with every token's four activations, broadcast from memory, so unpacking is amortised over the
// tokens and the dot-product instruction bounds a full tile; one token is bound by unpacking or by memory
// (matmul_stream.h). The run of weights stays in L1 while the tiles of all tokens pass over it.
#pragma once

#include "kernels/cpu/matmul_formats.h"

namespace cria::CRIA_ISA {

// The most tokens of a tile of super-blocks, and of a tile of blocks of 32; and the most tokens for which
// streaming from memory is the bound. kTileHalves and kTileSums are the ISA level's (simd_*.h). Sanitizers
// slow the compiler down, so their builds use the same code with smaller tiles.
#if defined(CRIA_SMALL_TILES)
constexpr int kMaxTokens = 2, kMaxTokens32 = 2, kStreamTokens = 1;
#else
constexpr int kMaxTokens = kTileSums, kMaxTokens32 = kTileSums / kTileHalves, kStreamTokens = 3;
#endif
/// Blocks of 32 columns in the longest run.
constexpr int kMaxRunBlocks = 64;

/// Bias of the bytes that go into the dot-product instruction: byte minus quant. It comes from the format
/// (kOffset), or from making signed bytes unsigned (kSignedOffset). Formats with a min have none.
template <class F>
constexpr int kByteOffset = F::kSigned ? kSignedOffset : F::kOffset;

/// Cache lines that a tile prefetches while it computes, a few at each step.
struct Prefetcher {
  const uint8_t *next, *end;
  int64_t bytes_per_step = 0;

  /// Spreads the lines over `steps` calls of step().
  CRIA_METHOD void spread(int steps) { bytes_per_step = ((end - next) / 64 + steps - 1) / steps * 64; }
  CRIA_METHOD void step() {
    const uint8_t* stop = next + bytes_per_step < end ? next + bytes_per_step : end;
    for (; next < stop; next += 64) prefetch(next);
  }
};

/// F::bytes() returns weights of group(outer, i) times 2^shift(i) (matmul_formats.h); this is the largest
/// shift. Tiles shift the scales of the other groups left to match it, so that a block's sum is shifted right
/// only once.
template <class F>
constexpr int kMaxShift = F::shift(F::kInner - 1);

/// The largest sum of the magnitudes of sixteen activations for which a group's dot product is sure to fit
/// int16.
template <class F>
constexpr int kMaxAbsSum16 = 32767 / (F::kMaxAbsWeight * 16 / F::kGroups);
/// Whether the sums of groups 2j and 2j + 1 are packed as int16 into one dword and multiplied by both scales
/// at once (add_pair()): where they nearly always fit. (In a block of 256 normally distributed activations,
/// scaled so that the largest is 127, the magnitudes of sixteen add up to about 600 on average; in one block
/// of a thousand, sixteen of them reach 1023.)
template <class F>
constexpr bool kPairs = kPairsOfSums && kMaxAbsSum16<F> > 1000;

struct PanelTile {
  /// The run: bytes of its first block, that block's index within the row, and the number of blocks.
  const uint8_t* panel;
  int64_t first_block;
  int blocks;
  /// Activations of n_tokens tokens; the tile's first is `token`.
  const ActivationRows* x;
  int64_t n_tokens, token;
  /// [token][row], in and out: on entry the sums of the columns before the run, to which it adds its own.
  float (*sums)[kPanelRows];
  Prefetcher prefetcher;
};

CRIA_INLINE I32x16 dot(bool is_signed, I32x16 acc, I32x16 w, Bytes4 x) {
  return is_signed ? dot_signed(acc, w, x) : dot_bytes(acc, w, x);
}

/// acc[t][h] += the dot products of half h's sixteen rows with token t over 4 * kSteps columns.
/// bytes(h, k): the weights of half h in columns 4k .. 4k + 3; q(t): the token's activations.
template <class F, int kTokens, int kSteps, int kHalves, class Bytes, class Activations>
CRIA_INLINE void multiply_group(Bytes bytes, Activations q, I32x16 (&acc)[kTokens][kHalves]) {
  CRIA_UNROLL(16)
  for (int k = 0; k < kSteps; k++) {
    I32x16 w[kHalves];
    CRIA_UNROLL(2)
    for (int h = 0; h < kHalves; h++) {
      w[h] = bytes(h, k);
      if (F::kSigned) w[h] = signed_bytes(w[h]);
      pin(w[h]);  // or gcc 12 loads it again for each token
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
  // For each token and block: minus the bias of the bytes times the sum of the block's activations. The
  // block's integer sum starts there, so the bias cancels.
  int32_t compensation[kTokens][kMaxRunBlocks];
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t;
    q[t] = x.q + token * x.stride + kBlockSize * tile.first_block;
    const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * tile.first_block;
    if constexpr (kByteOffset<F> != 0) {
      for (int b = 0; b < tile.blocks; b += 8) {  // a row of sums is padded to a multiple of eight blocks
        int16_t of_32[8];
        add_pairs(sums + 2 * b, of_32);
        CRIA_UNROLL(16)
        for (int i = 0; i < 8; i++) compensation[t][b + i] = -kByteOffset<F> * of_32[i];
      }
    }
  }
  const float* scale = x.scale + tile.token * x.scale_stride + tile.first_block;
  const float* weighted =
      F::kHasMin ? x.weighted_sum + tile.token * x.scale_stride + tile.first_block : nullptr;
  Prefetcher prefetcher = tile.prefetcher;
  prefetcher.spread(2 / kTileHalves * tile.blocks);
  for (int first = 0; first < 2; first += kTileHalves) {
    F32x16 acc[kTokens][kTileHalves];
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) acc[t][h] = load(tile.sums[t] + 16 * (first + h));
    for (int b = 0; b < tile.blocks; b++) {
      prefetcher.step();
      Rows16 block[kTileHalves];
      for (int h = 0; h < kTileHalves; h++) block[h] = {tile.panel + b * kPanelBlockBytes<F>, first + h};
      I32x16 isum[kTokens][kTileHalves];
      for (int t = 0; t < kTokens; t++)
        for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1(kByteOffset<F> != 0 ? compensation[t][b] : 0);
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

/// A dword holds two sums, as words. Added before the low one is accumulated, this bias keeps it from going
/// below zero and borrowing from the high one; `^ kLowWord` takes it off again.
constexpr int32_t kLowWord = 0x8000;
alignas(64) constexpr int32_t kLowWords[16] = {kLowWord, 0, kLowWord, 0, kLowWord, 0, kLowWord, 0,
                                               kLowWord, 0, kLowWord, 0, kLowWord, 0, kLowWord, 0};

/// A tile's activations of one super-block, and two arrays made of their sums by group. `pairs`: the sums as
/// words, two to a dword, which are multiplied with the mins. `compensation`: minus the bias of the bytes
/// times each sum (for add_pair(): plus kLowWord in the even groups).
template <class F, int kTokens, bool kForPairs = false>
struct SuperActivations {
  /// Token t's 256 at q + 256 t.
  const int8_t* q;
  const float* scale;
  alignas(64) int32_t pairs[kTokens][8], compensation[kTokens][16];

  CRIA_METHOD SuperActivations(const ActivationRows& x, int64_t n_tokens, int64_t token, int64_t block) {
    const int64_t at = block * n_tokens + token;
    q = x.q + kSuperBlockSize * at;
    scale = x.scale + at;
    for (int t = 0; t < kTokens; t++) {
      const int16_t* sums = x.sums16 + 16 * (at + t);
      int16_t of_32[8];
      if constexpr (F::kGroups == 8) add_pairs(sums, of_32);
      if constexpr (F::kHasMin) __builtin_memcpy(pairs[t], F::kGroups == 8 ? of_32 : sums, 2 * F::kGroups);
      if constexpr (kByteOffset<F> != 0) {
        if constexpr (F::kGroups == 16) {
          const I32x16 from = load_i16(sums) * -kByteOffset<F>;
          store(compensation[t], kForPairs ? from + load_i32(kLowWords) : from);
        } else {
          static_assert(!kForPairs, "no format has eight groups, an offset and sums that fit sixteen bits");
          for (int g = 0; g < 8; g++) compensation[t][g] = -kByteOffset<F> * of_32[g];
        }
      }
    }
    // They stay in memory, from where a broadcast costs no instruction.
    asm("" : : "r"(pairs), "r"(compensation) : "memory");
  }
};

/// isum += scale * dot product * 2^kMaxShift, for the 32 columns of group(outer, kI) (matmul_formats.h) or,
/// in formats with sixteen groups, for their half kPart.
template <class F, int kTokens, int kHalves, int kFirst, int kI, int kPart>
CRIA_INLINE void add_group(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                           I32x16 (&isum)[kTokens][kHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts;
  const int64_t group = F::kInner * outer + kI, scaled = kParts * group + kPart;
  asm("" : "+r"(panel));  // or gcc keeps other groups' loads alive and spills
  const int8_t* q = x.q + 32 * group + 4 * kSteps * kPart;
  I32x16 products[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++)
    products[t][h] = set1(kByteOffset<F> != 0 ? x.compensation[t][scaled] : 0);
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) { return F::bytes(Rows16{panel, kFirst + h}, outer, kI, kSteps * kPart + k); },
      [&](int t) { return q + kSuperBlockSize * t; }, products);
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const I32x16 s = F::scale_at(Rows16{panel, kFirst + h}, scaled) << (kMaxShift<F> - F::shift(kI));
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) isum[t][h] += products[t][h] * s;
  }
}
/// Adds group(outer, kI) and those after it with the same `outer`.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                            Prefetcher& prefetcher, I32x16 (&isum)[kTokens][kHalves]) {
  prefetcher.step();
  add_group<F, kTokens, kHalves, kFirst, kI, 0>(panel, x, outer, isum);
  if constexpr (F::kGroups == 16) add_group<F, kTokens, kHalves, kFirst, kI, 1>(panel, x, outer, isum);
  if constexpr (kI + 1 < F::kInner)
    add_groups<F, kTokens, kHalves, kFirst, kI + 1>(panel, x, outer, prefetcher, isum);
}

/// sums += the dot products of group 2j + kOdd. The pair of groups 2j and 2j + 1 is group(outer, 0) and
/// group(outer, 1) or, in formats with sixteen groups, the two halves of group(outer, kI).
template <class F, int kTokens, int kHalves, int kFirst, int kI, int kOdd>
CRIA_INLINE void multiply_one_of_pair(const uint8_t* panel, const int8_t* q, int64_t outer,
                                      I32x16 (&sums)[kTokens][kHalves]) {
  constexpr int kSteps = 64 / F::kGroups;
  asm("" : "+r"(panel));  // or gcc keeps the other group's loads alive and spills
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) {
        const Rows16 block{panel, kFirst + h};
        if constexpr (F::kGroups == 16) return F::low_bytes(block, outer, kI, kSteps * kOdd + k);
        return F::bytes(block, outer, kOdd, k);
      },
      [&](int t) { return q + kSuperBlockSize * t + 4 * kSteps * kOdd; }, sums);
}

/// Groups 2j and 2j + 1, whose sums fit sixteen bits: isum += scale * sum of products, both in one
/// instruction (vpdpwssd). The odd group's sum moves to the high words, and the even one's accumulates below
/// it.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_pair(const uint8_t* panel, const SuperActivations<F, kTokens, true>& x, int64_t outer,
                          I32x16 (&isum)[kTokens][kHalves]) {
  constexpr bool kCompensate = kByteOffset<F> != 0;
  constexpr int kShift = F::kGroups == 16 ? 0 : F::shift(1);
  const int64_t j = F::kGroups == 16 ? F::kInner * outer + kI : outer;
  const int8_t* q = x.q + 512 / F::kGroups * j;
  I32x16 sums[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) sums[t][h] = set1(kCompensate ? x.compensation[t][2 * j + 1] : 0);
  multiply_one_of_pair<F, kTokens, kHalves, kFirst, kI, 1>(panel, q, outer, sums);
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++)
    sums[t][h] = (sums[t][h] << (16 - kShift)) + set1(kCompensate ? x.compensation[t][2 * j] : kLowWord);
  multiply_one_of_pair<F, kTokens, kHalves, kFirst, kI, 0>(panel, q, outer, sums);
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    const I32x16 s = scales_of<F>(F::scale_bits(Rows16{panel, kFirst + h}, 2 * j));
    CRIA_UNROLL(16)
    for (int t = 0; t < kTokens; t++) isum[t][h] = dot_i16(isum[t][h], sums[t][h] ^ kLowWord, s);
  }
}
/// The pairs of `outer` from kI on.
template <class F, int kTokens, int kHalves, int kFirst, int kI>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens, true>& x, int64_t outer,
                            Prefetcher& prefetcher, I32x16 (&isum)[kTokens][kHalves]) {
  prefetcher.step();
  if (F::kGroups == 8) prefetcher.step();
  add_pair<F, kTokens, kHalves, kFirst, kI>(panel, x, outer, isum);
  if constexpr (F::kGroups == 16 && kI + 1 < F::kInner)
    add_groups<F, kTokens, kHalves, kFirst, kI + 1>(panel, x, outer, prefetcher, isum);
}

/// The float step of a block: `before` plus the scaled sum (less the scaled mins).
template <class F>
CRIA_INLINE F32x16 block_step(F32x16 before, F32x16 d, F32x16 minus_dmin, float scale, F32x16 sum, I32x16 m) {
  const F32x16 dx = set1(scale);
  if constexpr (F::kHasMin) return fma(dx, fma(minus_dmin, to_f32(m), d * sum), before);
  return fma(d * dx, sum, before);
}

/// Adds one super-block to the tile's sums, for halves kFirst .. kFirst + kHalves - 1 of the panel's rows.
template <class F, int kHalves, int kFirst, int kTokens, bool kByPairs>
CRIA_INLINE void add_super_block(const PanelTile& tile, const SuperActivations<F, kTokens, kByPairs>& x,
                                 Prefetcher& prefetcher) {
  I32x16 isum[kTokens][kHalves];
  CRIA_UNROLL(16)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) isum[t][h] = set1(0);
  for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
    asm("" : "+r"(outer));  // a real loop: unrolled, it overflows the micro-op cache
    add_groups<F, kTokens, kHalves, kFirst, 0>(tile.panel, x, outer, prefetcher, isum);
  }
  CRIA_UNROLL(2)
  for (int h = 0; h < kHalves; h++) {
    typename F::Header header;
    header.read(Rows16{tile.panel, kFirst + h});
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
  // Both halves at once where their sums fit the registers, else one after the other. Formats with sixteen
  // groups leave registers for four sums fewer: they unpack weights from several dwords.
  constexpr int kSums = kTileSums - (F::kGroups == 16 && kTileHalves > 1 ? 4 : 0);
  constexpr int kHalves = kTileHalves * kTokens <= kSums ? kTileHalves : 1;
  Prefetcher prefetcher = tile.prefetcher;
  prefetcher.spread(8 * 2 / kHalves);
  add_super_block<F, kHalves, 0>(tile, x, prefetcher);
  if constexpr (kHalves == 1) add_super_block<F, 1, 1>(tile, x, prefetcher);
}

/// A tile with activations so large that a group's sum may not fit int16. Rare, so it takes two tokens at a
/// time to keep the code small; the first two do all the prefetching.
template <class F>
static __attribute__((noinline)) void add_wide_tile256(PanelTile tile, int tokens) {
  for (; tokens > 0;
       tokens -= 2, tile.token += 2, tile.sums += 2, tile.prefetcher.next = tile.prefetcher.end) {
    if (tokens > 1)
      add_tile256<F, 2, false>(tile);
    else
      add_tile256<F, 1, false>(tile);
  }
}

// A run of one super-block, for kTokens tokens.
template <class F, int kTokens>
static void tile_blocks256(const PanelTile& tile) {
  if constexpr (kPairs<F> && kMaxAbsSum16<F> < 16 * 127) {
    const int16_t* max_abs_sum16 = tile.x->max_abs_sum16 + tile.first_block * tile.n_tokens + tile.token;
    int max = 0;
    for (int t = 0; t < kTokens; t++) max = max_abs_sum16[t] > max ? max_abs_sum16[t] : max;
    if (max > kMaxAbsSum16<F>) return add_wide_tile256<F>(tile, kTokens);
  }
  add_tile256<F, kTokens, kPairs<F>>(tile);
}

}  // namespace cria::CRIA_ISA
