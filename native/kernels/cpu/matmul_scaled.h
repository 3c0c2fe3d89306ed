// Tiles of blocks with a scale for every 16 columns (MXFP4, NVFP4, Q1_0, Q2_0): of up to kStreamTokens tokens
// from a format's own panels, and of more from BlockS8. Compiled per level.
//
// A block of 32 columns, with activations of one scale dx, is one float step: acc = fma(dx, fma(d1, S1, d0 *
// S0), acc), where S0 and S1 are the exact sums of its halves and d0 and d1 their scales.
#pragma once

#include "kernels/cpu/matmul_panel_tiles.h"

namespace cria::CRIA_ISA {

/// The most tokens of such a tile: its sums are integers, halves' products and floats.
constexpr int kMaxTokensScaled = kTileHalves > 1 && kMaxTokens32 > 4 ? 4 : kMaxTokens32;

template <class F, int kTokens>
static void tile_scaled32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const int64_t first_part = F::kParts * tile.first_block;
  const int parts = F::kParts * tile.blocks;
  const int8_t* q[kTokens];
  // Minus the bias of the bytes times the sum of each sixteen activations.
  int32_t compensation[kTokens][2 * kMaxRunBlocks];
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t;
    q[t] = x.q + token * x.stride + kBlockSize * first_part;
    const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * first_part;
    for (int i = 0; i < 2 * parts; i += 16)  // a row of sums is padded to a multiple of sixteen
      for (int k = 0; k < 16; k++) compensation[t][i + k] = -F::kOffset * sums[i + k];
  }
  const float* scale = x.scale + tile.token * x.scale_stride + first_part;
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
      CRIA_UNROLL(4)
      for (int part = 0; part < F::kParts; part++) {
        const int at = F::kParts * b + part;
        F32x16 scaled[kTokens][kTileHalves];
        CRIA_UNROLL(2)
        for (int i = 0; i < 2; i++) {
          I32x16 isum[kTokens][kTileHalves];
          for (int t = 0; t < kTokens; t++)
            for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1(compensation[t][2 * at + i]);
          multiply_group<F, kTokens, 4>([&](int h, int k) { return F::bytes(block[h], part, 4 * i + k); },
                                        [&](int t) { return q[t] + 32 * at + 16 * i; }, isum);
          CRIA_UNROLL(2)
          for (int h = 0; h < kTileHalves; h++) {
            const F32x16 d = F::d(block[h], part, i);
            CRIA_UNROLL(8)
            for (int t = 0; t < kTokens; t++)
              scaled[t][h] = i ? fma(d, to_f32(isum[t][h]), scaled[t][h]) : d * to_f32(isum[t][h]);
          }
        }
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const F32x16 dx = set1(scale[t * x.scale_stride + at]);
          for (int h = 0; h < kTileHalves; h++) acc[t][h] = fma(dx, scaled[t][h], acc[t][h]);
        }
      }
    }
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) store(tile.sums[t] + 16 * (first + h), acc[t][h]);
  }
}

}  // namespace cria::CRIA_ISA
