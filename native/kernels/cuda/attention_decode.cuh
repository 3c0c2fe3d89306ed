// Attention for few rows (a row is one query head of one token): a thread block has one tile of sixteen rows
// of one KV head. Its four warps divide a page's tokens among them for scores, and the head's dimensions for
// outputs. Several blocks may share a long context (split-KV), each with some of its spans
// (attention_plan.h).
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace cria::cuda {

constexpr int kDecodeWarps = 4;
constexpr int kDecodeThreads = kDecodeWarps * kWarpSize;
static_assert(kPage == kDecodeWarps * 16, "each warp scores sixteen tokens of a page");

struct DecodeShared {
  SharedArray<uint4, kPage / 16 * kWarpSize> p;             // exponentials, as fragments of mma's A
  SharedArray<float, kDecodeWarps * kDecodeRows> warp_max;  // [warp][row]
  SharedArray<int, 1> is_last;
};

/// The pages of a thread block, and the last position that any of its rows sees.
struct DecodeRange {
  int first_page, end_page, last;
  CRIA_DEVICE DecodeRange(const AttentionTile& tile, int group) {
    last = tile.first_position + (tile.first_row + tile.n_rows - 1) / group - tile.first_row / group;
    first_page = span_begin(tile.first_span) / kPage;
    end_page = (min(last + 1, span_begin(tile.end_span)) + kPage - 1) / kPage;
  }
};

/// q times K for the warp's sixteen tokens of a page. q, k: fragments in shared memory. dim_tiles: the padded
/// head dimensions in sixteens.
CRIA_DEVICE void score_warp_tokens(float (&scores)[2][4], const uint4* q, const uint4* k, int dim_tiles) {
  const int lane = lane_in_warp();
  k += warp_in_block() * dim_tiles * kWarpSize + lane;
#pragma unroll
  for (int j = 0; j < dim_tiles; j++) {
    const uint4 queries = q[j * kWarpSize + lane], keys = k[j * kWarpSize];
    mma(scores[0], queries, keys.x, keys.y);
    mma(scores[1], queries, keys.z, keys.w);
  }
}

/// Leaves the maximum of the warp's scores of each row for page_max().
CRIA_DEVICE void share_warp_max(DecodeShared& shared, const float (&scores)[2][4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float max = quad_max(
        fmaxf(fmaxf(scores[0][2 * r], scores[0][2 * r + 1]), fmaxf(scores[1][2 * r], scores[1][2 * r + 1])));
    if (lane_in_warp() % 4 == 0)
      shared.warp_max[warp_in_block() * kDecodeRows + lane_in_warp() / 4 + 8 * r] = max;
  }
}

/// The page's maximum score of row g + 8 * r, after a barrier.
CRIA_DEVICE float page_max(DecodeShared& shared, int r) {
  const int row = lane_in_warp() / 4 + 8 * r;
  float max = shared.warp_max[row];
#pragma unroll
  for (int w = 1; w < kDecodeWarps; w++) max = fmaxf(max, shared.warp_max[w * kDecodeRows + row]);
  return max;
}

/// Turns the scores of the warp's tokens into exponentials, in shared memory, and rescales the state to the
/// maximum including this page.
template <int kDimTiles>
CRIA_DEVICE void exponentials(DecodeShared& shared, SoftmaxFragment<kDimTiles>& state,
                              const float (&scores)[2][4], float scale) {
  float rescale[2];
#pragma unroll
  for (int r = 0; r < 2; r++) rescale[r] = state.update_max(r, page_max(shared, r) * scale);
  shared.p[thread_in_block()] = p_fragment(scores[0], scores[1], scale, state.max);
  state.rescale(rescale);
}

// ---- contexts that several thread blocks share ----

/// Writes the state of the tile's rows to the workspace as partial result `slot`. dim_tile(j): which sixteen
/// of the head's dimensions the warp's j-th are.
template <int kDimTiles, class DimTile>
CRIA_DEVICE void store_partial(const AttentionKernelArgs& a, const AttentionTile& tile, int kv_head, int slot,
                               const SoftmaxFragment<kDimTiles>& state, DimTile dim_tile) {
  const int lane = lane_in_warp();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = lane / 4 + 8 * r;
    if (row >= tile.n_rows) continue;
    const int64_t at =
        static_cast<int64_t>(tile.slot_row + slot * tile.n_rows + row) * a.n_kv_heads + kv_head;
    if (warp_in_block() == 0 && lane % 4 == 0)
      a.partial_stats[at] = make_float2(state.max[r], state.sum[2 * r]);
#pragma unroll
    for (int j = 0; j < kDimTiles; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int d = dim_tile(j) * 16 + half * 8 + lane % 4 * 2;
        if (d < a.padded)
          *reinterpret_cast<float2*>(a.partial_out + at * a.padded + d) =
              make_float2(state.out[j][half][2 * r], state.out[j][half][2 * r + 1]);
      }
  }
}

/// The partial result of a row, `at` being its index in the workspace: the state with dimensions d .. d + 3.
CRIA_DEVICE SoftmaxState<4, exp2_approx> load_partial(const AttentionKernelArgs& a, int64_t at, int d) {
  const float2 stats = a.partial_stats[at];
  const float4 out = *reinterpret_cast<const float4*>(a.partial_out + at * a.padded + d);
  return {.max = stats.x, .sum = stats.y, .out = {out.x, out.y, out.z, out.w}};
}

/// Whether this thread block is the last of its tile to finish; all threads get the same answer. If so, they
/// see the partial results that the other blocks stored.
CRIA_DEVICE bool ends_last(const AttentionKernelArgs& a, const AttentionTile& tile, int kv_head,
                           DecodeShared& shared) {
  __syncthreads();
  if (thread_in_block() == 0) {
    uint32_t* counter = a.counters + static_cast<int64_t>(tile.counter) * a.n_kv_heads + kv_head;
    const bool is_last = add_acquire_release(counter, 1) + 1 == static_cast<uint32_t>(tile.n_parts);
    if (is_last) store_release(counter, 0);  // for the next launch
    shared.is_last[0] = is_last;
  }
  __syncthreads();
  return shared.is_last[0];
}

/// Merges the tile's partial results in order and writes the rows' output. Slot 0 has the spans before
/// first_end, already merged; every later slot has one span. A thread takes four dimensions of a row at a
/// time.
CRIA_DEVICE void merge_partials(const AttentionKernelArgs& a, const AttentionTile& tile, int kv_head) {
  const int n_slots = tile.n_spans - tile.first_end + 1, quarters = a.padded / 4;
  const int64_t stride = static_cast<int64_t>(tile.n_rows) * a.n_kv_heads;
  for (int i = thread_in_block(); i < tile.n_rows * quarters; i += kDecodeThreads) {
    const int row = i / quarters, d = i % quarters * 4;
    int64_t at = static_cast<int64_t>(tile.slot_row + row) * a.n_kv_heads + kv_head;
    SoftmaxState<4, exp2_approx> state = load_partial(a, at, d);
#pragma unroll 8
    for (int slot = 1; slot < n_slots; slot++) {
      at += stride;
      state.merge(load_partial(a, at, d));
    }
    state.normalize();
    const int r = tile.first_row + row;
    float* out = a.out + (static_cast<int64_t>(r / a.group) * a.n_heads + kv_head * a.group + r % a.group) *
                             a.head_dim;
    if (d < a.head_dim) *reinterpret_cast<float2*>(out + d) = make_float2(state.out[0], state.out[1]);
    if (d + 2 < a.head_dim) *reinterpret_cast<float2*>(out + d + 2) = make_float2(state.out[2], state.out[3]);
  }
}

/// kTiles: the padded head_dim in sixteens, or 0 for any up to kMaxHeadDim.
template <int kTiles>
static __global__ void __launch_bounds__(kDecodeThreads, 3) attention_decode_kernel(AttentionKernelArgs a) {
  const AttentionTile tile = a.tiles[blockIdx.y];
  if (tile.n_rows == 0) return;  // the plan has fewer tiles than the grid
  const int kv_head = static_cast<int>(blockIdx.x), warp = warp_in_block(), lane = lane_in_warp();
  const int dim_tiles = kTiles ? kTiles : a.padded / 16;
  constexpr int kDimTiles = ((kTiles ? kTiles : kMaxHeadDim / 16) + kDecodeWarps - 1) / kDecodeWarps;
  const auto dim_tile = [warp](int j) { return warp + j * kDecodeWarps; };

  DecodeShared& shared = shared_memory<DecodeShared>();
  DynamicShared dynamic;
  uint16_t* ring = dynamic.take<uint16_t>(static_cast<size_t>(a.stages) * kPage * a.padded, 128);
  uint4* q = dynamic.take<uint4>(static_cast<size_t>(dim_tiles) * kWarpSize);

  const RowPair rows = rows_of(a, tile, kv_head, 0);
  const DecodeRange range(tile, a.group);
  PageStream<kDecodeThreads> stream(a, ring, kv_head, tile.sequence, range.first_page,
                                    range.end_page - range.first_page);
  for (int j = warp; j < dim_tiles; j += kDecodeWarps) q[j * kWarpSize + lane] = q_fragment(a, rows, j);

  SoftmaxFragment<kDimTiles> state, total;  // of the current span, and of all spans before it
  state.init();
  total.init();
  int span = tile.first_span;
  for (int page = range.first_page; page < range.end_page; page++) {
    const int position = page * kPage;
    float scores[2][4] = {};
    score_warp_tokens(scores, q, stream.wait(2 * (page - range.first_page)), dim_tiles);
#pragma unroll
    for (int i = 0; i < 2; i++) mask_scores(scores[i], rows, position + warp * 16 + i * 8);
    share_warp_max(shared, scores);

    const uint4* v = stream.wait(2 * (page - range.first_page) + 1);
    exponentials(shared, state, scores, a.scale);
    __syncthreads();
    const int n_valid = range.last + 1 - position;
#pragma unroll
    for (int i = 0; i < kPage / 16; i++)
      add_values(state, shared.p[i * kWarpSize + lane], v, i * 16, n_valid, dim_tiles, dim_tile);

    const bool ends = page + 1 == range.end_page;
    if (!ends && position + kPage < span_begin(span + 1)) continue;
    // Spans are merged one by one from the context's first, so that the plan cannot change the bits. Only the
    // block that has the first can do so here; the others store each span for merge_partials().
    const bool merges = tile.first_span == 0;
    if (merges)
      total.merge(state);
    else
      total = state;
    if (tile.n_parts > 1 && (!merges || ends))
      store_partial(a, tile, kv_head, merges ? 0 : span - tile.first_end + 1, total, dim_tile);
    span++;
    state.init();
  }

  if (tile.n_parts == 1) {
    total.normalize();
    store_out(a, rows, total, dim_tile);
  } else if (ends_last(a, tile, kv_head, shared)) {
    merge_partials(a, tile, kv_head);
  }
}

}  // namespace cria::cuda
