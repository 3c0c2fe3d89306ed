// Products of float weights in the file's layout: tiles of eight rows by a few tokens. Compiled per level.
//
// Order of summation (docs/numerics.md): sixteen chains by column mod 16 (BF16: by pair of columns mod 16,
// odd column first), merged by the tree.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int kTileRows = 8;

struct Tile {
  /// The last row repeats beyond the end of the matrix.
  const uint8_t* rows[kTileRows];
  int64_t cols;
  /// Bytes from a row to the same row of the next tile.
  int64_t prefetch;
  /// Activations, and the first of the tile's kTokens.
  const ActivationRows* x;
  int64_t token;
};

// A step is sixteen columns, BF16's thirty-two.

struct WeightF32 {
  using Values = F32x16;
  static constexpr int kStep = 16, kBytes = 4;
  CRIA_INLINE Values weights(const uint8_t* row, int64_t k, int n) {
    const float* p = reinterpret_cast<const float*>(row) + k;
    return n == kStep ? load(p) : load(p, n);
  }
  CRIA_INLINE Values activations(const ActivationRows& x, int64_t t, int64_t k, int n) {
    const float* p = x.f32 + t * x.stride + k;
    return n == kStep ? load(p) : load(p, n);
  }
  CRIA_INLINE F32x16 multiply(F32x16 acc, Values w, Values x) { return fma(w, x, acc); }
};
struct WeightF16 : WeightF32 {
  static constexpr int kBytes = 2;
  CRIA_INLINE Values weights(const uint8_t* row, int64_t k, int n) {
    const uint16_t* p = reinterpret_cast<const uint16_t*>(row) + k;
    return n == kStep ? load_f16(p) : load_f16(p, n);
  }
};
struct WeightBF16 {
  using Values = Bf16x32;
  static constexpr int kStep = 32, kBytes = 2;
  CRIA_INLINE Values weights(const uint8_t* row, int64_t k, int n) {
    return load_bf16(reinterpret_cast<const uint16_t*>(row) + k, n);
  }
  CRIA_INLINE Values activations(const ActivationRows& x, int64_t t, int64_t k, int n) {
    return load_bf16(x.bf16 + t * x.stride + k, n);
  }
  CRIA_INLINE F32x16 multiply(F32x16 acc, Values w, Values x) { return dot_bf16(acc, w, x); }
};

template <class W, int kTokens>
static void tile_floats(const Tile& tile, float out[][kTileRows]) {
  // kRows * kTokens vectors of sixteen chains stay in registers, with kTokens of activations and one of
  // weights.
  constexpr int kRows = 4;
  using Values = typename W::Values;
  const int64_t whole = tile.cols / W::kStep * W::kStep;
  const int tail = static_cast<int>(tile.cols - whole);
  for (int r0 = 0; r0 < kTileRows; r0 += kRows) {
    F32x16 acc[kTokens][kRows];
    for (int t = 0; t < kTokens; t++)
      for (int r = 0; r < kRows; r++) acc[t][r] = set1(0.0f);
    for (int64_t k = 0; k < whole; k += W::kStep) {
      Values x[kTokens];
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; t++) x[t] = W::activations(*tile.x, tile.token + t, k, W::kStep);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; r++) {
        const uint8_t* row = tile.rows[r0 + r];
        if constexpr (kTokens == 1) prefetch(row + k * W::kBytes + tile.prefetch);
        const Values w = W::weights(row, k, W::kStep);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; t++) acc[t][r] = W::multiply(acc[t][r], w, x[t]);
      }
    }
    if (tail)
      for (int r = 0; r < kRows; r++)
        for (int t = 0; t < kTokens; t++)
          acc[t][r] = W::multiply(acc[t][r], W::weights(tile.rows[r0 + r], whole, tail),
                                  W::activations(*tile.x, tile.token + t, whole, tail));
    for (int t = 0; t < kTokens; t++)
      for (int r = 0; r < kRows; r++) out[t][r0 + r] = reduce_add(acc[t][r]);
  }
}

}  // namespace cria::CRIA_ISA
