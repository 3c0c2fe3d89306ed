// matmul_panels.h for few tokens, whose weights stream from memory: scales and sums stay in registers, and
// what is loaded serves every group of columns that has bits of it. Compiled per level.
#pragma once

#include "kernels/cpu/matmul_panel_tiles.h"

namespace cria::CRIA_ISA {

/// The groups of `kOuter` and those after it, for few tokens: what is loaded serves all groups that have bits
/// of it. The bytes that `ahead` has where these stand in their block are fetched.
template <class F, int kTokens, int kFirst, int kOuter>
CRIA_INLINE void stream_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x,
                               const uint8_t* ahead, const typename F::Header* header,
                               I32x16 isum[][kTileHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts, kAllSteps = 64 / F::kInner;
  constexpr int kLines = (kPanelBlockBytes<F> + 63) / 64;
  CRIA_UNROLL(2)
  for (int part = 0; part < kParts; part++) {
    I32x16 products[F::kInner][kTokens][kTileHalves];
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      const int g = kParts * (F::kInner * kOuter + i) + part;
      CRIA_UNROLL(8)
      for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++)
        products[i][t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? x.start[t][g] : 0);
    }
    CRIA_UNROLL(8)
    for (int k = kSteps * part; k < kSteps * (part + 1); k++) {
      CRIA_UNROLL(8)
      for (int line = kLines * (8 * kOuter + k) / kAllSteps; line < kLines * (8 * kOuter + k + 1) / kAllSteps;
           line++)
        if (kFirst == 0) prefetch(ahead + 64 * line);
      CRIA_UNROLL(4)
      for (int i = 0; i < F::kInner; i++) {
        I32x16 w[kTileHalves];
        CRIA_UNROLL(2)
        for (int h = 0; h < kTileHalves; h++) {
          w[h] = F::bytes(HalfBlock{panel, kFirst + h}, kOuter, i, k);
          if (F::kSigned) w[h] = signed_bytes(w[h]);
        }
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const Bytes4 v = broadcast4(x.q + kSuperBlockSize * t + 32 * (F::kInner * kOuter + i) + 4 * k);
          CRIA_UNROLL(2)
          for (int h = 0; h < kTileHalves; h++)
            products[i][t][h] = meet(F::kSigned, products[i][t][h], w[h], v);
        }
      }
    }
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      const int g = kParts * (F::kInner * kOuter + i) + part;
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const I32x16 scale = header[h].scale(g);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) isum[t][h] = add(isum[t][h], mul(products[i][t][h], scale));
      }
    }
  }
  if constexpr (kOuter + 1 < 8 / F::kInner)
    stream_groups<F, kTokens, kFirst, kOuter + 1>(panel, x, ahead, header, isum);
}

/// Halves kFirst .. kFirst + kTileHalves - 1 of a block's rows, with scales and sums in registers.
template <class F, int kTokens, int kFirst>
CRIA_INLINE void stream_super_block(const uint8_t* panel, const SuperActivations<F, kTokens>& x,
                                    const uint8_t* ahead, F32x16 acc[][2]) {
  typename F::Header header[kTileHalves];
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) header[h].read(HalfBlock{panel, kFirst + h});
  I32x16 isum[kTokens][kTileHalves];
  CRIA_UNROLL(8)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1_lanes(0);
  stream_groups<F, kTokens, kFirst, 0>(panel, x, ahead, header, isum);
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) {
    I32x16 m[kTokens];
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) m[t] = set1_lanes(0);
    F32x16 minus_dmin = set1(0.0f);
    if constexpr (F::kHasMin) {
      minus_dmin = header[h].minus_dmin();
      CRIA_UNROLL(8)
      for (int j = 0; j < F::kGroups / 2; j++) {
        const I32x16 min = header[h].min_pair(j);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) m[t] = dot_words(m[t], min, x.pairs[t][j]);
      }
    }
    const F32x16 d = header[h].d();
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      F32x16& sum = acc[t][kFirst + h];
      sum = block_step<F>(sum, d, minus_dmin, x.scale[t], isum[t][h], m[t]);
    }
  }
}

// A run of blocks for few tokens, which stream from memory.
template <class F, int kTokens>
static void stream_blocks256(const PanelTile& tile) {
  F32x16 acc[kTokens][2];
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) acc[t][h] = load(tile.sums[t] + 16 * h);
  const uint8_t *panel = tile.panel, *ahead = tile.fetch.next;
  for (int64_t b = 0; b < tile.blocks; b++, panel += kPanelBlockBytes<F>, ahead += kPanelBlockBytes<F>) {
    const SuperActivations<F, kTokens> x(*tile.x, tile.n_tokens, tile.token, tile.first_block + b);
    stream_super_block<F, kTokens, 0>(panel, x, ahead, acc);
    if constexpr (kTileHalves == 1) stream_super_block<F, kTokens, 1>(panel, x, ahead, acc);
  }
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) store(tile.sums[t] + 16 * h, acc[t][h]);
}

}  // namespace cria::CRIA_ISA
