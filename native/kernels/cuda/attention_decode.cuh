// Attention for few rows: one tile of sixteen rows a block, the page's tokens (for scores) and the head's
// dimensions (for outputs) shared among four warps, a long context among several blocks.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace cria::cuda {

constexpr int kDecodeWarps = 4;
constexpr int kDecodeThreads = kDecodeWarps * kWarpSize;

struct DecodeShared {
  SharedArray<uint4, kPage / 16 * kWarpSize> exponentials;  // fragments of A
  SharedArray<float, kDecodeWarps * kDecodeRows> greatest;
  SharedArray<int, 1> is_last;
};

/// kTiles: the padded head size in sixteens, or 0 for any up to kMaxHeadDim.
template <int kTiles>
static __global__ void __launch_bounds__(kDecodeThreads, 3) attention_decode_kernel(AttentionKernelArgs a) {
  const AttentionTile tile = a.tiles[blockIdx.y];
  if (tile.n_rows == 0) return;  // the plan has fewer
  const int kv_head = static_cast<int>(blockIdx.x), warp = warp_in_block(), lane = lane_in_warp();
  const int tiles = kTiles ? kTiles : a.padded / 16;
  constexpr int kOwn = kTiles ? (kTiles + kDecodeWarps - 1) / kDecodeWarps : kMaxHeadDim / 16 / kDecodeWarps;

  DecodeShared& shared = shared_memory<DecodeShared>();
  DynamicShared dynamic;
  uint16_t* ring = dynamic.take<uint16_t>(static_cast<size_t>(a.stages) * kPage * a.padded, 128);
  uint4* q = dynamic.take<uint4>(static_cast<size_t>(tiles) * kWarpSize);

  const RowPair rows = rows_of(a, tile, kv_head, 0);
  const int last =
      tile.first_position + (tile.first_row + tile.n_rows - 1) / a.group - tile.first_row / a.group;
  const int first_page = span_begin_on_device(tile.first_span) / kPage;
  const int end_page = (min(last + 1, span_begin_on_device(tile.end_span)) + kPage - 1) / kPage;
  PageStream<kDecodeThreads> stream(a, ring, kv_head, tile.sequence, first_page, end_page - first_page);
  for (int step = warp; step < tiles; step += kDecodeWarps)
    q[step * kWarpSize + lane] = q_fragment(a, rows, step);

  // Of the span under way, and of all spans so far. The warp's sixteens of dimensions are warp, warp + 4, ...
  float greatest[2], sum[4], out[kOwn][2][4];
  float total_greatest[2] = {-INFINITY, -INFINITY}, total_sum[2] = {}, total[kOwn][2][4] = {};
  begin_span(greatest, sum, out);
  int span = tile.first_span;
  for (int page = first_page; page < end_page; page++) {
    const int position = page * kPage;
    // Scores of the warp's own sixteen tokens.
    const uint4* k = stream.arrive(2 * (page - first_page)) + warp * tiles * kWarpSize + lane;
    float scores[2][4] = {};
#pragma unroll
    for (int step = 0; step < tiles; step++) {
      const uint4 rows_of_q = q[step * kWarpSize + lane], columns = k[step * kWarpSize];
      mma(scores[0], rows_of_q, columns.x, columns.y);
      mma(scores[1], rows_of_q, columns.z, columns.w);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) mask_scores(scores[i], rows, position + warp * 16 + i * 8);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float most = quad_max(fmaxf(fmaxf(scores[0][2 * r], scores[0][2 * r + 1]),
                                        fmaxf(scores[1][2 * r], scores[1][2 * r + 1])));
      if (lane % 4 == 0) shared.greatest[warp * kDecodeRows + lane / 4 + 8 * r] = most;
    }

    const uint4* v = stream.arrive(2 * (page - first_page) + 1);
    float base[2], rescale[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float most = shared.greatest[lane / 4 + 8 * r];
#pragma unroll
      for (int w = 1; w < kDecodeWarps; w++)
        most = fmaxf(most, shared.greatest[w * kDecodeRows + lane / 4 + 8 * r]);
      rescale[r] = raise_greatest(greatest[r], base[r], most, a.scale);
    }
    shared.exponentials[warp * kWarpSize + lane] = p_fragment(scores[0], scores[1], a.scale, base);
    rescale_sums(sum, out, rescale);
    __syncthreads();
    const int n_valid = last + 1 - position;
#pragma unroll
    for (int step = 0; step < kPage / 16; step++) {
      const uint4 weights = shared.exponentials[step * kWarpSize + lane];
      mma(sum, weights, kOnesF16, kOnesF16);
#pragma unroll
      for (int j = 0; j < kOwn; j++) {
        const int own = warp + j * kDecodeWarps;
        if (own >= tiles) continue;
        uint4 values = v[(step * tiles + own) * kWarpSize + lane];
        if (n_valid < kPage) values = mask_values(values, step * 16, n_valid);
        mma(out[j][0], weights, values.x, values.y);
        mma(out[j][1], weights, values.z, values.w);
      }
    }

    if (page + 1 < end_page && (page + 1) * kPage < span_begin_on_device(span + 1)) continue;
    // The span ends.
    const bool keeps = tile.first_span == 0, ends = page + 1 == end_page;
    if (keeps) merge_into(total_greatest, total_sum, total, greatest, sum, out);
    if (tile.n_parts > 1 && (!keeps || ends)) {
      const int slot = keeps ? 0 : span - tile.first_end + 1;
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int row = lane / 4 + 8 * r;
        if (row >= tile.n_rows) continue;
        const int64_t at =
            static_cast<int64_t>(tile.slot_row + slot * tile.n_rows + row) * a.n_kv_heads + kv_head;
        if (warp == 0 && lane % 4 == 0)
          a.stats[at] =
              keeps ? make_float2(total_greatest[r], total_sum[r]) : make_float2(greatest[r], sum[2 * r]);
#pragma unroll
        for (int j = 0; j < kOwn; j++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const int d = (warp + j * kDecodeWarps) * 16 + half * 8 + lane % 4 * 2;
            if (d >= a.padded) continue;
            *reinterpret_cast<float2*>(a.partial + at * a.padded + d) =
                make_float2(keeps ? total[j][half][2 * r] : out[j][half][2 * r],
                            keeps ? total[j][half][2 * r + 1] : out[j][half][2 * r + 1]);
          }
      }
    }
    span++;
    begin_span(greatest, sum, out);
  }

  if (tile.n_parts == 1) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (rows.at[r] < 0) continue;
      const float inverse = 1.0f / total_sum[r];
#pragma unroll
      for (int j = 0; j < kOwn; j++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int d = (warp + j * kDecodeWarps) * 16 + half * 8 + lane % 4 * 2;
          if (d < a.head_dim)
            *reinterpret_cast<float2*>(a.out + rows.at[r] + d) =
                make_float2(total[j][half][2 * r] * inverse, total[j][half][2 * r + 1] * inverse);
        }
    }
    return;
  }

  // The last block of the tile merges all parts, spans in order.
  __syncthreads();
  if (thread_in_block() == 0) {
    uint32_t* counter = a.counters + static_cast<int64_t>(tile.counter) * a.n_kv_heads + kv_head;
    const bool is_last = add_acquire_release(counter, 1) + 1 == static_cast<uint32_t>(tile.n_parts);
    if (is_last) store_release(counter, 0);  // for the next launch
    shared.is_last[0] = is_last;
  }
  __syncthreads();
  if (!shared.is_last[0]) return;
  const int n_slots = tile.n_spans - tile.first_end + 1, quarters = a.padded / 4;
  for (int i = thread_in_block(); i < tile.n_rows * quarters; i += kDecodeThreads) {
    const int row = i / quarters, d = i % quarters * 4;
    const int64_t stride = static_cast<int64_t>(tile.n_rows) * a.n_kv_heads;
    int64_t at = static_cast<int64_t>(tile.slot_row + row) * a.n_kv_heads + kv_head;
    float2 most_and_sum = a.stats[at];
    float4 x = *reinterpret_cast<const float4*>(a.partial + at * a.padded + d);
#pragma unroll 8
    for (int slot = 1; slot < n_slots; slot++) {
      at += stride;
      const float2 part = a.stats[at];
      const float4 y = *reinterpret_cast<const float4*>(a.partial + at * a.padded + d);
      const MergeScales m = merge_scales(most_and_sum.x, part.x);
      most_and_sum = make_float2(m.now, merged(most_and_sum.y, part.y, m));
      x = make_float4(merged(x.x, y.x, m), merged(x.y, y.y, m), merged(x.z, y.z, m), merged(x.w, y.w, m));
    }
    const float inverse = 1.0f / most_and_sum.y;
    const int r = tile.first_row + row;
    float* out_row =
        a.out +
        (static_cast<int64_t>(r / a.group) * a.n_heads + kv_head * a.group + r % a.group) * a.head_dim;
    if (d < a.head_dim) *reinterpret_cast<float2*>(out_row + d) = make_float2(x.x * inverse, x.y * inverse);
    if (d + 2 < a.head_dim)
      *reinterpret_cast<float2*>(out_row + d + 2) = make_float2(x.z * inverse, x.w * inverse);
  }
}

}  // namespace cria::cuda
