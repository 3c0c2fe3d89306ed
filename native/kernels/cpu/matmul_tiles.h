// Eight rows by a few tokens: products of weights in their file layout with activations. Compiled per level.
//
// Eight rows at once: their integer lanes are summed by one transpose, so that a vector holds one sum a row
// and the float step is taken for eight rows together. Orders of summation (docs/numerics.md): quantized
// weights take one float step per block (k-quants with mins: two), in the order of the columns; float weights
// run in sixteen chains by column mod 16 (BF16: by pair of columns mod 16, odd column first), merged by the
// tree.
#pragma once

#include "kernels/cpu/matmul_formats.h"
#include "kernels/cpu/swiglu.h"

namespace cria::CRIA_ISA {

constexpr int kTileRows = 8;

struct Tile {
  const uint8_t* rows[kTileRows];  // the last one repeats beyond the end of the matrix
  int64_t cols;
  int64_t prefetch;  // bytes from a row to the same row of the next tile
  const ActivationRows* x;
  int64_t token;  // first of kTokens
};

CRIA_INLINE F32x8 gather_f16(const uint16_t* values) { return f16_f32x8(values); }

// ---- blocks of 32 ----

template <class F, int kTokens>
static void tile_blocks32(const Tile& tile, float out[][kTileRows]) {
  using Block = typename F::Block;
  F32x8 acc[kTokens];
  for (int t = 0; t < kTokens; t++) acc[t] = zero_f32x8();
  const int64_t blocks = tile.cols / kBlockSize;
  const ActivationRows& x = *tile.x;
  for (int64_t b = 0; b < blocks; b++) {
    I32x8 lanes[kTokens][kTileRows];
    alignas(16) uint16_t d[kTileRows], m[kTileRows];
    for (int r = 0; r < kTileRows; r++) {
      const Block& block = *(reinterpret_cast<const Block*>(tile.rows[r]) + b);
      prefetch(reinterpret_cast<const uint8_t*>(&block) + tile.prefetch);
      d[r] = block.d;
      if constexpr (F::kHasMin) m[r] = block.m;
      const I8x32 w = F::bytes(block);
      for (int t = 0; t < kTokens; t++) {
        const I8x32 q = load_bytes(x.q + (tile.token + t) * x.cols + b * kBlockSize);
        lanes[t][r] = F::kSigned ? dot_signed(zero_i32x8(), w, q) : dot_unsigned(zero_i32x8(), w, q);
      }
    }
    const F32x8 dw = gather_f16(d);
    for (int t = 0; t < kTokens; t++) {
      const int64_t token = tile.token + t;
      I32x8 sum = transpose_sum(lanes[t]);
      if constexpr (F::kOffset != 0) {
        const int16_t* s = x.sums16 + token * x.sums_stride + 2 * b;
        sum = subtract(sum, F::kOffset * (s[0] + s[1]));
      }
      acc[t] = fma(mul(dw, set1_f32x8(x.scale[token * x.scale_stride + b])), to_f32(sum), acc[t]);
      if constexpr (F::kHasMin)
        acc[t] = fma(gather_f16(m), set1_f32x8(x.weighted_sum[token * x.scale_stride + b]), acc[t]);
    }
  }
  for (int t = 0; t < kTokens; t++) store(out[t], acc[t]);
}

// ---- super-blocks of 256 ----

template <class F, int kTokens>
static void tile_blocks256(const Tile& tile, float out[][kTileRows]) {
  using Block = typename F::Block;
  F32x8 acc[kTokens];
  for (int t = 0; t < kTokens; t++) acc[t] = zero_f32x8();
  const int64_t blocks = tile.cols / kSuperBlockSize;
  const ActivationRows& x = *tile.x;
  for (int64_t b = 0; b < blocks; b++) {
    I32x8 isum[kTokens][kTileRows], msum[kTokens][kTileRows];
    alignas(16) uint16_t d[kTileRows], dmin[kTileRows];
    ActBlock act[kTokens];
    for (int t = 0; t < kTokens; t++) {
      const int64_t token = tile.token + t;
      act[t] = {x.q + token * x.cols + b * kSuperBlockSize, x.sums16 + token * x.sums_stride + 16 * b};
    }
    for (int r = 0; r < kTileRows; r++) {
      const Block& block = *(reinterpret_cast<const Block*>(tile.rows[r]) + b);
      for (size_t at = 0; at < sizeof(Block); at += 64)
        prefetch(reinterpret_cast<const uint8_t*>(&block) + tile.prefetch + at);
      I32x8 i[kTokens], m[kTokens];
      block256_sums<F, kTokens>(block, act, i, m);
      d[r] = block.d;
      if constexpr (F::kHasMin) dmin[r] = min_scale(block);
      for (int t = 0; t < kTokens; t++) {
        isum[t][r] = i[t];
        if constexpr (F::kHasMin) msum[t][r] = m[t];
      }
    }
    const F32x8 dw = gather_f16(d);
    for (int t = 0; t < kTokens; t++) {
      const F32x8 dx = set1_f32x8(x.scale[(tile.token + t) * x.scale_stride + b]);
      const F32x8 sum = to_f32(transpose_sum(isum[t]));
      if constexpr (F::kHasMin) {
        const F32x8 step = fma(negate(gather_f16(dmin)), to_f32(transpose_sum(msum[t])), mul(dw, sum));
        acc[t] = fma(dx, step, acc[t]);
      } else {
        acc[t] = fma(mul(dw, dx), sum, acc[t]);
      }
    }
  }
  for (int t = 0; t < kTokens; t++) store(out[t], acc[t]);
}

// ---- float weights: a step is sixteen columns, BF16's thirty-two ----

struct WeightF32 {
  using Values = F32x16;
  static constexpr int kStep = 16, kBytes = 4;
  CRIA_INLINE Values weights(const uint8_t* row, int64_t k, int n) {
    const float* p = reinterpret_cast<const float*>(row) + k;
    return n == kStep ? load(p) : load(p, n);
  }
  CRIA_INLINE Values activations(const ActivationRows& x, int64_t t, int64_t k, int n) {
    const float* p = x.f32 + t * x.cols + k;
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
    return load_bf16(x.bf16 + t * x.cols + k, n);
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
