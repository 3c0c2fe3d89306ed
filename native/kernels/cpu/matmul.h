// Products of weights with activations: which tile serves which type and batch. Compiled per level.
#pragma once

#include "kernels/cpu/matmul_tiles.h"
#if defined(CRIA_WIDE)
#include "kernels/cpu/matmul_wide.h"
#include "kernels/cpu/matmul_wide_k4.h"
#endif

namespace cria::CRIA_ISA {

using TileFunction = void (*)(const Tile&, float out[][kTileRows]);
constexpr int kMostTileTokens = 6;

/// The tiles of one weight type, by tokens; those that are null are made up of smaller ones.
struct TileFunctions {
  TileFunction by_tokens[kMostTileTokens + 1];
};

template <class F>
CRIA_INLINE TileFunctions blocks32() {
#if defined(CRIA_WIDE)
  return {{nullptr, wide_blocks32<F, 1>, wide_blocks32<F, 2>, wide_blocks32<F, 3>}};
#else
  return {{nullptr, tile_blocks32<F, 1>, nullptr, nullptr, tile_blocks32<F, 4>}};
#endif
}
template <class F>
CRIA_INLINE TileFunctions blocks256() {
#if defined(CRIA_WIDE)
  // IQ4_XS's bytes reach 255: its sums of four products would not fit the 16 bits of the wide forms.
  if constexpr (F::kGroups == 8 && F::kHasMin)
    return {{nullptr, wide_k4<F, 1>, wide_k4<F, 2>, wide_k4<F, 3>}};
  else if constexpr (!F::kSigned)
    return {{nullptr, wide_blocks256<F, 1>, wide_blocks256<F, 2>, wide_blocks256<F, 3>}};
#endif
  return {{nullptr, tile_blocks256<F, 1>, nullptr, nullptr, tile_blocks256<F, 4>}};
}
template <class W>
CRIA_INLINE TileFunctions floats() {
#if defined(CRIA_WIDE)
  return {{nullptr, tile_floats<W, 1>, tile_floats<W, 2>, nullptr, tile_floats<W, 4>, nullptr,
           tile_floats<W, 6>}};
#else
  return {{nullptr, tile_floats<W, 1>, tile_floats<W, 2>}};
#endif
}

static TileFunctions tile_functions(DType dtype) {
  switch (dtype) {
    case DType::f32: return floats<WeightF32>();
    case DType::f16: return floats<WeightF16>();
    case DType::bf16: return floats<WeightBF16>();
    case DType::q4_0: return blocks32<FormatQ4_0>();
    case DType::q4_1: return blocks32<FormatQ4_1>();
    case DType::q5_0: return blocks32<FormatQ5_0>();
    case DType::q5_1: return blocks32<FormatQ5_1>();
    case DType::q8_0: return blocks32<FormatQ8_0>();
    case DType::iq4_nl: return blocks32<FormatIQ4_NL>();
    case DType::q2_k: return blocks256<FormatQ2_K>();
    case DType::q3_k: return blocks256<FormatQ3_K>();
    case DType::q4_k: return blocks256<FormatQ4_K>();
    case DType::q5_k: return blocks256<FormatQ5_K>();
    case DType::q6_k: return blocks256<FormatQ6_K>();
    case DType::iq4_xs: return blocks256<FormatIQ4_XS>();
    default: return {};
  }
}

// Tiles of eight rows for tokens [token, token + count) of args.
struct TileRun {
  const MatmulRows* args;
  TileFunctions functions;
  int64_t row_bytes;

  inline __attribute__((always_inline)) void operator()(int64_t row, int64_t row_end, int64_t token,
                                                        int count, float out[][kTileRows]) const {
    Tile tile;
    for (int r = 0; r < kTileRows; r++)
      tile.rows[r] = args->weights + (row + r < row_end ? row + r : row_end - 1) * row_bytes;
    tile.cols = args->cols;
    tile.prefetch = kTileRows * row_bytes;
    tile.x = &args->x;
    tile.token = token;
    functions.by_tokens[count](tile, out);
  }
  /// The largest tile for the tokens that are left.
  inline __attribute__((always_inline)) int tokens_at_once(int64_t left) const {
    int count = left < kMostTileTokens ? static_cast<int>(left) : kMostTileTokens;
    while (!functions.by_tokens[count]) count--;
    return count;
  }
};

static bool matmul(const MatmulRows* args, int64_t row_begin, int64_t row_end) {
  const TileRun run{args, tile_functions(args->dtype), bytes_per_row(args->dtype, args->cols)};
  if (!run.functions.by_tokens[1]) return false;
  float out[kMostTileTokens][kTileRows];
  // Tokens outermost: a few tokens' activations stay in L1 while the chunk's rows stream from L2.
  for (int64_t token = 0; token < args->n_tokens;) {
    const int count = run.tokens_at_once(args->n_tokens - token);
    for (int64_t row = row_begin; row < row_end; row += kTileRows) {
      run(row, row_end, token, count, out);
      const int64_t n = row_end - row < kTileRows ? row_end - row : kTileRows;
      for (int t = 0; t < count; t++) {
        float* y = args->y + (token + t) * args->y_stride + row;
        for (int64_t r = 0; r < n; r++) y[r] = args->accumulate ? y[r] + out[t][r] : out[t][r];
      }
    }
    token += count;
  }
  return true;
}

static bool gate_up(const MatmulRows* gate, const MatmulRows* up, int64_t row_begin, int64_t row_end) {
  const TileRun run_gate{gate, tile_functions(gate->dtype), bytes_per_row(gate->dtype, gate->cols)};
  const TileRun run_up{up, tile_functions(up->dtype), bytes_per_row(up->dtype, up->cols)};
  if (!run_gate.functions.by_tokens[1] || !run_up.functions.by_tokens[1]) return false;
  float out_gate[kMostTileTokens][kTileRows], out_up[kMostTileTokens][kTileRows];
  for (int64_t token = 0; token < gate->n_tokens;) {
    const int64_t left = gate->n_tokens - token;
    // A count that both types have a tile for.
    int count = run_gate.tokens_at_once(left);
    while (count != run_up.tokens_at_once(count))
      count = run_gate.tokens_at_once(run_up.tokens_at_once(count));
    for (int64_t row = row_begin; row < row_end; row += kTileRows) {
      run_gate(row, row_end, token, count, out_gate);
      run_up(row, row_end, token, count, out_up);
      const int64_t n = row_end - row < kTileRows ? row_end - row : kTileRows;
      for (int t = 0; t < count; t++)
        silu_mul(out_gate[t], out_up[t], gate->y + (token + t) * gate->y_stride + row, n);
    }
    token += count;
  }
  return true;
}

}  // namespace cria::CRIA_ISA
