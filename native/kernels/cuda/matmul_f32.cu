// Products with F32 weights: sixteen chains by column, merged by the tree, as on the CPU and with its bits.
//
// Warp w has four rows of a tile: each half-warp has row 2w + half and the one eight below, so that one
// lane has both gate and up of Epilogue::swiglu. Lane l of a half-warp is chain l, for up to eight tokens
// at a time.
#include "kernels/cuda/matmul_formats.cuh"
#include "kernels/cuda/matmul_kernels.h"

namespace cria::cuda {
namespace {

constexpr int kF32Warps = 4;
constexpr int kF32Tokens = 8;

CRIA_DEVICE float4 load_f32(const uint8_t* p) { return __ldg(reinterpret_cast<const float4*>(p)); }

CRIA_DEVICE float add_to_chain(float acc, const float4& w, const float4& x) {
  return fmaf(w.w, x.w, fmaf(w.z, x.z, fmaf(w.y, x.y, fmaf(w.x, x.x, acc))));
}

}  // namespace

// Block (tile, tokens); with groups (tile, group).
template <bool kGrouped>
static __global__ void __launch_bounds__(kF32Warps* kWarpSize)
    matmul_f32_kernel(const uint8_t* weights, Activations x, int n_tokens, float* y, int64_t rows,
                      int64_t cols, int64_t y_stride, ProductOutput output, RowGroups groups) {
  constexpr int64_t kChunkBytes = weight_layout(WeightForm::f32).chunk_bytes;
  const int64_t n_chunks = chunks_of(WeightForm::f32, cols);
  if constexpr (kGrouped)
    if (!select_group<ActivationForm::f32>(groups, static_cast<int>(blockIdx.y), n_chunks, weights, x,
                                           n_tokens, y, y_stride))
      return;
  const int chain = lane_in_warp() % 16, row = 2 * warp_in_block() + lane_in_warp() / 16;
  const uint8_t* tile = weights + static_cast<int64_t>(blockIdx.x) * n_chunks * kChunkBytes + chain * 16;
  const int first = kGrouped ? 0 : static_cast<int>(blockIdx.y) * kF32Tokens,
            n = min(kF32Tokens, n_tokens - first);
  const uint8_t* x_first = x.q + first * n_chunks * kActivationChunkBytes + chain * 16;

  float acc[2][kF32Tokens];
  for (int t = 0; t < kF32Tokens; t++) acc[0][t] = acc[1][t] = 0.0f;
#pragma unroll 2
  for (int64_t i = 0; i < n_chunks; i++) {
    const uint8_t* w = tile + i * kChunkBytes + row * 256;
    const float4 upper = load_f32(w), lower = load_f32(w + 8 * 256);
#pragma unroll
    for (int t = 0; t < kF32Tokens; t++) {
      if (t >= n) break;
      const float4 v = load_f32(x_first + (t * n_chunks + i) * kActivationChunkBytes);
      acc[0][t] = add_to_chain(acc[0][t], upper, v);
      acc[1][t] = add_to_chain(acc[1][t], lower, v);
    }
  }

  // Chain t stores token t.
  float own[2] = {0.0f, 0.0f};
#pragma unroll
  for (int t = 0; t < kF32Tokens; t++) {
    float sum[2] = {acc[0][t], acc[1][t]};
    for (int step = 8; step; step /= 2)
      for (int i = 0; i < 2; i++) sum[i] = sum[i] + __shfl_xor_sync(kFullWarp, sum[i], step);
    if (t == chain)
      for (int i = 0; i < 2; i++) own[i] = sum[i];
  }
  if (chain >= n) return;
  for (int i = 0; i < 2; i++) output.adjust(&own[i], 1, blockIdx.x, row + 8 * i, rows);
  const int64_t r = output.row_of(blockIdx.x, row);
  float* out = y + (first + chain) * y_stride + r;
  if (r < rows) output.store(own[0], own[1], out);
  if (!output.is_swiglu() && r + 8 < rows) output.store(own[1], 0.0f, out + 8);
}

void matmul_f32(const MatmulArgs& a, const RowGroups& groups, Stream stream) {
  static_assert(kSmallGroupRows == kF32Tokens);
  const std::int64_t tile_outputs = a.epilogue == Epilogue::swiglu ? 8 : kTileRows;
  const Activations x = divide_activations(ActivationForm::f32, a.activations, a.n_tokens, a.weight.cols);
  launch({.name = "matmul_f32",
          .grid = {static_cast<unsigned>((a.weight.rows + tile_outputs - 1) / tile_outputs),
                   static_cast<unsigned>(groups.groups ? groups.n_groups
                                                       : (a.n_tokens + kF32Tokens - 1) / kF32Tokens)},
          .block = {kF32Warps * kWarpSize},
          .stream = stream},
         groups.groups ? matmul_f32_kernel<true> : matmul_f32_kernel<false>,
         static_cast<const uint8_t*>(a.weight.data), x, a.n_tokens, a.y, a.weight.rows, a.weight.cols,
         a.y_stride, ProductOutput(a), groups);
}

}  // namespace cria::cuda
