// Attention for many rows: 128 rows a block, sixteen for each of eight warps, which share the pages as they
// arrive.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace cria::cuda {

constexpr int kPrefillWarps = kPrefillRows / 16;
constexpr int kPrefillThreads = kPrefillWarps * kWarpSize;
/// Scores of a page: accumulators of eight tokens each.
constexpr int kPageScores = kPage / 8;

/// What a warp sees of the context. A warp without rows sees nothing.
struct PrefillRange {
  int first, last;  // positions of the first and the last of its rows' tokens
  int n_pages;      // of the block
  CRIA_DEVICE PrefillRange(const AttentionTile& tile, int group, int warp) {
    const int before = tile.first_position - tile.first_row / group;
    const int n_rows = min(tile.n_rows - warp * 16, 16), first_row = tile.first_row + warp * 16;
    first = before + first_row / group;
    last = n_rows > 0 ? before + (first_row + n_rows - 1) / group : -1;
    n_pages = (before + (tile.first_row + tile.n_rows - 1) / group) / kPage + 1;
  }
};

/// q times the page's K, for the warp's sixteen rows.
template <int kDimTiles>
CRIA_DEVICE void score_page(float (&scores)[kPageScores][4], const uint4 (&q)[kDimTiles], const uint4* k,
                            int dim_tiles) {
#pragma unroll
  for (int j = 0; j < kDimTiles; j++) {
    if (j >= dim_tiles) continue;
#pragma unroll
    for (int i = 0; i < kPage / 16; i++) {
      const uint4 keys = k[(i * dim_tiles + j) * kWarpSize + lane_in_warp()];
      mma(scores[2 * i], q[j], keys.x, keys.y);
      mma(scores[2 * i + 1], q[j], keys.z, keys.w);
    }
  }
}

/// The page's maximum score of row g + 8 * r.
CRIA_DEVICE float page_max(const float (&scores)[kPageScores][4], int r) {
  float max = fmaxf(scores[0][2 * r], scores[0][2 * r + 1]);
#pragma unroll
  for (int i = 1; i < kPageScores; i++) max = fmaxf(max, fmaxf(scores[i][2 * r], scores[i][2 * r + 1]));
  return quad_max(max);
}

/// Scores -> exponentials, with the state's maxima raised to the page's. rescale: for state.rescale().
template <int kDimTiles>
CRIA_DEVICE void exponentials(uint4 (&p)[kPage / 16], float (&rescale)[2], SoftmaxFragment<kDimTiles>& state,
                              const float (&scores)[kPageScores][4], float scale) {
#pragma unroll
  for (int r = 0; r < 2; r++) rescale[r] = state.update_max(r, page_max(scores, r) * scale);
#pragma unroll
  for (int i = 0; i < kPage / 16; i++) p[i] = p_fragment(scores[2 * i], scores[2 * i + 1], scale, state.max);
}

/// kTiles: the padded head size in sixteens, or 0 for any up to kMaxPrefillDim.
template <int kTiles>
static __global__ void __launch_bounds__(kPrefillThreads, 1) attention_prefill_kernel(AttentionKernelArgs a) {
  const AttentionTile tile = a.tiles[blockIdx.y];
  if (tile.n_rows == 0) return;  // the plan has fewer tiles than the grid
  const int kv_head = static_cast<int>(blockIdx.x), warp = warp_in_block();
  const int dim_tiles = kTiles ? kTiles : a.padded / 16;
  constexpr int kDimTiles = kTiles ? kTiles : kMaxPrefillDim / 16;
  const auto dim_tile = [](int j) { return j; };

  DynamicShared dynamic;
  uint16_t* ring = dynamic.take<uint16_t>(static_cast<size_t>(a.stages) * kPage * a.padded, 128);

  const PrefillRange range(tile, a.group, warp);
  const RowPair rows = rows_of(a, tile, kv_head, warp * 16);
  PageStream<kPrefillThreads> stream(a, ring, kv_head, tile.sequence, 0, range.n_pages);
  uint4 q[kDimTiles];
#pragma unroll
  for (int j = 0; j < kDimTiles; j++)
    if (j < dim_tiles) q[j] = q_fragment(a, rows, j);

  SoftmaxFragment<kDimTiles> state, total;  // of the current span, and of all spans before it
  state.init();
  total.init();
  int span = 0;
  for (int page = 0; page < range.n_pages; page++) {
    const int position = page * kPage;
    const bool sees = position <= range.last;  // the same for the whole warp
    const uint4* k = stream.wait(2 * page);
    uint4 p[kPage / 16];
    float rescale[2] = {1.0f, 1.0f};
    if (sees) {
      float scores[kPageScores][4] = {};
      score_page(scores, q, k, dim_tiles);
      if (position + kPage - 1 > range.first) {
#pragma unroll
        for (int i = 0; i < kPageScores; i++) mask_scores(scores[i], rows, position + i * 8);
      }
      exponentials(p, rescale, state, scores, a.scale);
    }

    const uint4* v = stream.wait(2 * page + 1);
    if (!sees) continue;
    // Most pages do not raise the maximum, and a factor of one changes nothing.
    if (!__all_sync(kFullWarp, rescale[0] == 1.0f && rescale[1] == 1.0f)) state.rescale(rescale);
#pragma unroll
    for (int i = 0; i < kPage / 16; i++)
      add_values(state, p[i], v, i * 16, range.last + 1 - position, dim_tiles, dim_tile);

    const int next = position + kPage;
    if (next <= range.last && next < span_begin(span + 1)) continue;
    total.merge(state);
    state.init();
    span++;
  }
  total.normalize();
  store_out(a, rows, total, dim_tile);
}

}  // namespace cria::cuda
