// The tiles of matmul_panels.h for up to three tokens, bound by the memory that weights stream from: scales
// and sums stay in registers, and each loaded dword serves every group of columns that has bits in it. The
// hardware prefetcher does better here than prefetch instructions (docs/performance.md). Compiled per level.
#pragma once

#include "kernels/cpu/matmul_panel_tiles.h"

namespace cria::CRIA_ISA {

/// isum += scale * sum of products, for the groups of `outer`: each loaded dword serves all that have bits in
/// it.
template <class F, int kTokens, int kFirst>
CRIA_INLINE void stream_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                               const typename F::Header* header, I32x16 isum[][kTileHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts;
  CRIA_UNROLL(2)
  for (int part = 0; part < kParts; part++) {
    // The first of the groups with a scale of their own, then every kParts-th.
    const int64_t first = kParts * F::kInner * outer + part;
    I32x16 products[F::kInner][kTokens][kTileHalves];
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      CRIA_UNROLL(8)
      for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++)
        products[i][t][h] = set1(kByteOffset<F> != 0 ? x.compensation[t][first + kParts * i] : 0);
    }
    // Q6_K's fourth value is unpacked from three dwords. The compiler would load them again, in an order that
    // the hardware prefetcher does not follow.
    I32x16 loaded[3][kTileHalves];
    if constexpr (F::Block::kPanelBits == 6) {
      CRIA_UNROLL(3)
      for (int i = 0; i < 3; i++) CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        loaded[i][h] = F::dword(Rows16{panel, kFirst + h}, outer, 3 * part + i);
        pin(loaded[i][h]);
      }
    }
    CRIA_UNROLL(8)
    for (int k = kSteps * part; k < kSteps * (part + 1); k++) {
      CRIA_UNROLL(4)
      for (int i = 0; i < F::kInner; i++) {
        I32x16 w[kTileHalves];
        CRIA_UNROLL(2)
        for (int h = 0; h < kTileHalves; h++) {
          if constexpr (F::Block::kPanelBits == 6)
            w[h] = unpack6([&](int d) { return loaded[d % 3][h]; }, k);
          else
            w[h] = F::bytes(Rows16{panel, kFirst + h}, outer, i, k);
          if (F::kSigned) w[h] = signed_bytes(w[h]);
        }
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const Bytes4 v = broadcast4(x.q + kSuperBlockSize * t + 32 * (F::kInner * outer + i) + 4 * k);
          CRIA_UNROLL(2)
          for (int h = 0; h < kTileHalves; h++)
            products[i][t][h] = dot(F::kSigned, products[i][t][h], w[h], v);
        }
      }
    }
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const I32x16 scale = header[h].scale(static_cast<int>(first) + kParts * i);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          I32x16 sum = products[i][t][h];
          if (F::shift(i) != 0) sum = shift_right_signed(sum, F::shift(i));
          isum[t][h] += sum * scale;
        }
      }
    }
  }
}

/// Halves kFirst .. kFirst + kTileHalves - 1 of a block's rows, with scales and sums in registers.
template <class F, int kTokens, int kFirst>
CRIA_INLINE void stream_super_block(const uint8_t* panel, const SuperActivations<F, kTokens>& x,
                                    F32x16 acc[][2]) {
  typename F::Header header[kTileHalves];
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) header[h].read(Rows16{panel, kFirst + h});
  I32x16 isum[kTokens][kTileHalves];
  CRIA_UNROLL(8)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1(0);
  for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
    asm("" : "+r"(outer));  // a real loop: the hardware prefetcher follows a few loads, not a hundred
    stream_groups<F, kTokens, kFirst>(panel, x, outer, header, isum);
  }
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) {
    I32x16 m[kTokens];
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) m[t] = set1(0);
    F32x16 minus_dmin = set1(0.0f);
    if constexpr (F::kHasMin) {
      minus_dmin = header[h].minus_dmin();
      CRIA_UNROLL(8)
      for (int j = 0; j < F::kGroups / 2; j++) {
        const I32x16 min = header[h].min_pair(j);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) m[t] = dot_i16(m[t], min, x.pairs[t][j]);
      }
    }
    const F32x16 d = header[h].d();
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      F32x16& sum = acc[t][kFirst + h];
      sum = block_step<F>(sum, d, minus_dmin, x.scale[t], to_f32(isum[t][h]), m[t]);
    }
  }
}

// A run of blocks for the tokens of a streaming tile.
template <class F, int kTokens>
static void stream_blocks256(const PanelTile& tile) {
  F32x16 acc[kTokens][2];
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) acc[t][h] = load(tile.sums[t] + 16 * h);
  const uint8_t* panel = tile.panel;
  for (int64_t b = 0; b < tile.blocks; b++, panel += kPanelBlockBytes<F>) {
    const SuperActivations<F, kTokens> x(*tile.x, tile.n_tokens, tile.token, tile.first_block + b);
    stream_super_block<F, kTokens, 0>(panel, x, acc);
    if constexpr (kTileHalves == 1) stream_super_block<F, kTokens, 1>(panel, x, acc);
  }
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) store(tile.sums[t] + 16 * h, acc[t][h]);
}

}  // namespace cria::CRIA_ISA
