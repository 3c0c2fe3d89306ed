// Products of weights with activations, 32 rows at a time. Compiled per level.
#pragma once

#include "kernels/cpu/matmul_panels.h"
#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/swiglu.h"

namespace cria::CRIA_ISA {

using FloatTileFunction = void (*)(const Tile&, float out[][kTileRows]);
constexpr int kMaxFloatTokens = 6;

/// The tiles of a float type, by tokens. Where one is null, smaller ones take its place.
struct FloatTiles {
  FloatTileFunction by_tokens[kMaxFloatTokens + 1];
  int64_t element_bytes;
};

template <class W>
CRIA_INLINE FloatTiles float_tiles() {
#if defined(CRIA_WIDE)
  return {
      {nullptr, tile_floats<W, 1>, tile_floats<W, 2>, nullptr, tile_floats<W, 4>, nullptr, tile_floats<W, 6>},
      W::kBytes};
#else
  return {{nullptr, tile_floats<W, 1>, tile_floats<W, 2>}, W::kBytes};
#endif
}

static FloatTiles float_tiles(DType dtype) {
  switch (dtype) {
    case DType::f32: return float_tiles<WeightF32>();
    case DType::f16: return float_tiles<WeightF16>();
    case DType::bf16: return float_tiles<WeightBF16>();
    default: return {};
  }
}

/// The sums of rows [row, row + 32) with all tokens.
static void sum_floats(const MatmulRows& args, int64_t row, int64_t row_end, float (*sums)[kPanelRows]) {
  const FloatTiles tiles = float_tiles(args.dtype);
  const int64_t row_bytes = args.cols * tiles.element_bytes;
  float out[kMaxFloatTokens][kTileRows];
  // Tokens outermost: a few tokens' activations stay in L1 while 32 rows stream from L2.
  for (int64_t token = 0; token < args.n_tokens;) {
    const int64_t left = args.n_tokens - token;
    int count = left < kMaxFloatTokens ? static_cast<int>(left) : kMaxFloatTokens;
    while (!tiles.by_tokens[count]) count--;
    for (int64_t r = row; r < row + kPanelRows && r < row_end; r += kTileRows) {
      Tile tile;
      for (int i = 0; i < kTileRows; i++)
        tile.rows[i] = args.weights + (r + i < row_end ? r + i : row_end - 1) * row_bytes;
      tile.cols = args.cols;
      tile.prefetch = kTileRows * row_bytes;
      tile.x = &args.x;
      tile.token = token;
      tiles.by_tokens[count](tile, out);
      for (int t = 0; t < count; t++) __builtin_memcpy(sums[token + t] + (r - row), out[t], sizeof out[t]);
    }
    token += count;
  }
}

static void sum_rows(const MatmulRows& args, int64_t row, int64_t row_end, uint8_t* scratch,
                     float (*sums)[kPanelRows]) {
  if (block_shape(args.dtype).dwords > 0)
    sum_panel(args, row, row_end, scratch, sums);
  else
    sum_floats(args, row, row_end, sums);
}

/// Bytes of the sums of 32 rows with all tokens.
CRIA_INLINE int64_t sums_bytes(int64_t n_tokens) {
  return n_tokens * static_cast<int64_t>(sizeof(float[kPanelRows]));
}

static size_t matmul_scratch_bytes(DType dtype, int64_t n_tokens) {
  if (block_shape(dtype).dwords > 0)
    return static_cast<size_t>(panel_scratch_bytes(dtype) + sums_bytes(n_tokens));
  return float_tiles(dtype).element_bytes > 0 ? static_cast<size_t>(sums_bytes(n_tokens)) : 0;
}

/// What Weight::scale and Weight::bias make of sums of rows [row, row + 16).
CRIA_INLINE F32x16 scale_and_bias(const MatmulRows& args, F32x16 sum, int64_t row, int lanes) {
  if (args.scale != 1.0f) sum = sum * set1(args.scale);
  if (args.bias) sum = sum + load(args.bias + row, lanes);
  return sum;
}

/// The same of rows [row, row + n), in place.
CRIA_INLINE void scale_and_bias(const MatmulRows& args, int64_t row, int64_t n, float* sums) {
  if (args.scale == 1.0f && !args.bias) return;
  for (int64_t i = 0; i < n; i += 16) {
    const int lanes = static_cast<int>(n - i);
    store(sums + i, scale_and_bias(args, load(sums + i, lanes), row + i, lanes), lanes);
  }
}

static void matmul(const MatmulRows* args, int64_t row_begin, int64_t row_end, uint8_t* scratch) {
  auto* sums = reinterpret_cast<float(*)[kPanelRows]>(scratch);
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    sum_rows(*args, row, row_end, scratch + sums_bytes(args->n_tokens), sums);
    for (int64_t t = 0; t < args->n_tokens; t++) {
      float* y = args->y + t * args->y_stride + row;
      for (int h = 0; h < 2; h++) {
        const int lanes = static_cast<int>(row_end - row) - 16 * h;
        if (lanes <= 0) break;
        const F32x16 sum = scale_and_bias(*args, load(sums[t] + 16 * h), row + 16 * h, lanes);
        store(y + 16 * h, args->accumulate ? load(y + 16 * h, lanes) + sum : sum, lanes);
      }
    }
  }
}

static void gate_up(const MatmulRows* gate, const MatmulRows* up, int64_t row_begin, int64_t row_end,
                    uint8_t* scratch) {
  const int64_t n_tokens = gate->n_tokens;
  auto* gate_sums = reinterpret_cast<float(*)[kPanelRows]>(scratch);
  auto* up_sums = gate_sums + n_tokens;
  uint8_t* rest = scratch + 2 * sums_bytes(n_tokens);
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    sum_rows(*gate, row, row_end, rest, gate_sums);
    sum_rows(*up, row, row_end, rest, up_sums);
    const int64_t n = row_end - row < kPanelRows ? row_end - row : kPanelRows;
    for (int64_t t = 0; t < n_tokens; t++) {
      scale_and_bias(*gate, row, n, gate_sums[t]);
      scale_and_bias(*up, row, n, up_sums[t]);
      silu_mul(gate_sums[t], up_sums[t], gate->y + t * gate->y_stride + row, n);
    }
  }
}

}  // namespace cria::CRIA_ISA
