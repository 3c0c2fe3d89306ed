// Attention for many rows: 128 rows a block, sixteen to each of eight warps, which share the pages as they
// come.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace cria::cuda {

constexpr int kPrefillWarps = kPrefillRows / 16;
constexpr int kPrefillThreads = kPrefillWarps * kWarpSize;

/// kTiles: the padded head size in sixteens, or 0 for any up to kMaxPrefillDim.
template <int kTiles>
static __global__ void __launch_bounds__(kPrefillThreads, 1) attention_prefill_kernel(AttentionKernelArgs a) {
  const AttentionTile tile = a.tiles[blockIdx.y];
  if (tile.n_rows == 0) return;  // the plan has fewer
  const int kv_head = static_cast<int>(blockIdx.x), warp = warp_in_block(), lane = lane_in_warp();
  const int tiles = kTiles ? kTiles : a.padded / 16;
  constexpr int kMax = kTiles ? kTiles : kMaxPrefillDim / 16;

  DynamicShared dynamic;
  uint16_t* ring = dynamic.take<uint16_t>(static_cast<size_t>(a.stages) * kPage * a.padded, 128);

  // What the warp sees: its rows' tokens are first .. last; a warp without rows sees nothing.
  const int before = tile.first_position - tile.first_row / a.group,
            n_rows = min(tile.n_rows - warp * 16, 16);
  const int first_row = tile.first_row + warp * 16;
  const int first = before + first_row / a.group,
            last = n_rows > 0 ? before + (first_row + n_rows - 1) / a.group : -1;
  const int n_pages = (before + (tile.first_row + tile.n_rows - 1) / a.group) / kPage + 1;
  const RowPair rows = rows_of(a, tile, kv_head, warp * 16);
  PageStream<kPrefillThreads> stream(a, ring, kv_head, tile.sequence, 0, n_pages);
  uint4 q[kMax];
#pragma unroll
  for (int step = 0; step < kMax; step++)
    if (step < tiles) q[step] = q_fragment(a, rows, step);

  float greatest[2], sum[4], out[kMax][2][4];
  float total_greatest[2] = {-INFINITY, -INFINITY}, total_sum[2] = {}, total[kMax][2][4] = {};
  begin_span(greatest, sum, out);
  int span = 0;
  for (int page = 0; page < n_pages; page++) {
    const int position = page * kPage;
    const bool sees = position <= last;  // the same for the whole warp
    const uint4* k = stream.arrive(2 * page) + lane;
    uint4 weights[kPage / 16];
    float rescale[2] = {1.0f, 1.0f};
    if (sees) {
      float scores[kPage / 8][4] = {};
#pragma unroll
      for (int step = 0; step < kMax; step++) {
        if (step >= tiles) continue;
#pragma unroll
        for (int i = 0; i < kPage / 16; i++) {
          const uint4 columns = k[(i * tiles + step) * kWarpSize];
          mma(scores[2 * i], q[step], columns.x, columns.y);
          mma(scores[2 * i + 1], q[step], columns.z, columns.w);
        }
      }
      if (position + kPage - 1 > first) {
#pragma unroll
        for (int i = 0; i < kPage / 8; i++) mask_scores(scores[i], rows, position + i * 8);
      }
      float base[2];
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float most = fmaxf(scores[0][2 * r], scores[0][2 * r + 1]);
#pragma unroll
        for (int i = 1; i < kPage / 8; i++) most = fmaxf(most, fmaxf(scores[i][2 * r], scores[i][2 * r + 1]));
        rescale[r] = raise_greatest(greatest[r], base[r], quad_max(most), a.scale);
      }
#pragma unroll
      for (int i = 0; i < kPage / 16; i++)
        weights[i] = p_fragment(scores[2 * i], scores[2 * i + 1], a.scale, base);
    }

    const uint4* v = stream.arrive(2 * page + 1) + lane;
    if (!sees) continue;
    // Most pages do not raise the maximum: times one changes nothing.
    if (!__all_sync(kFullWarp, rescale[0] == 1.0f && rescale[1] == 1.0f)) rescale_sums(sum, out, rescale);
    const int n_valid = last + 1 - position;
#pragma unroll
    for (int step = 0; step < kPage / 16; step++) {
      mma(sum, weights[step], kOnesF16, kOnesF16);
#pragma unroll
      for (int j = 0; j < kMax; j++) {
        if (j >= tiles) continue;
        uint4 values = v[(step * tiles + j) * kWarpSize];
        if (n_valid < kPage) values = mask_values(values, step * 16, n_valid);
        mma(out[j][0], weights[step], values.x, values.y);
        mma(out[j][1], weights[step], values.z, values.w);
      }
    }
    if (position + kPage <= last && position + kPage < span_begin_on_device(span + 1)) continue;
    merge_into(total_greatest, total_sum, total, greatest, sum, out);
    begin_span(greatest, sum, out);
    span++;
  }

#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (rows.at[r] < 0) continue;
    const float inverse = 1.0f / total_sum[r];
#pragma unroll
    for (int j = 0; j < kMax; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int d = j * 16 + half * 8 + lane % 4 * 2;
        if (j < tiles && d < a.head_dim)
          *reinterpret_cast<float2*>(a.out + rows.at[r] + d) =
              make_float2(total[j][half][2 * r] * inverse, total[j][half][2 * r + 1] * inverse);
      }
  }
}

}  // namespace cria::cuda
