// The pieces of both attention kernels for an f16 cache. All arithmetic is here and in attention_softmax.cuh,
// once: a row gets the same bits from either kernel, whatever rows share its tile.
//
// For a row: a page's scores s by mma over the dimensions in order; m' = max(m, c * max of s) with
// c = log2(e) / sqrt(head_dim); p = 2^(c * s - m') in one fma, rounded to f16; sum and out are rescaled by
// 2^(m - m') and then take the page's tokens by mma, in order. Each span starts afresh; spans are merged in
// order, and the result is multiplied by 1 / sum.
//
// Fragments: g = lane / 4 and t = lane % 4 (ptx_matrix.cuh). A tile's rows are those of mma's A.
#pragma once

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

struct AttentionKernelArgs {
  const float* q;              // [n_tokens, n_heads * head_dim]
  float* out;                  // the same
  const AttentionTile* tiles;  // one per blockIdx.y; tiles beyond the plan's have no rows
  const int32_t* block_table;  // [n_sequences, block_table_stride]
  const unsigned char* pages;
  // The workspace (attention_tiles.h): a state for each row of partial results.
  uint32_t* counters;
  float2* partial_stats;  // max and sum
  float* partial_out;     // [padded] each
  size_t page_stride;     // bytes
  int32_t block_table_stride;
  int32_t n_heads, n_kv_heads, group, head_dim, padded;
  int32_t stages;  // of the ring of pages
  float scale;     // c
};

constexpr int kPage = kCudaPageTokens;
constexpr uint32_t kOnesF16 = 0x3c003c00u;

/// The two rows of a thread's fragments: g and g + 8 of the sixteen from `first` on.
struct RowPair {
  int64_t at[2];    // offset of the row's head in q and out; -1: no such row
  int32_t last[2];  // the last position that the row sees: that of its token
};
CRIA_DEVICE RowPair rows_of(const AttentionKernelArgs& a, const AttentionTile& tile, int kv_head, int first) {
  RowPair rows;
  const int first_token = tile.first_row / a.group;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int r = first + lane_in_warp() / 4 + 8 * i, row = tile.first_row + r;
    const int token = row / a.group;
    rows.at[i] =
        r < tile.n_rows
            ? (static_cast<int64_t>(token) * a.n_heads + kv_head * a.group + row % a.group) * a.head_dim
            : -1;
    rows.last[i] = tile.first_position + token - first_token;
  }
  return rows;
}

/// A fragment of q: sixteen rows, dimensions from 16 * dim_tile on. Columns 2t, 2t + 1, 2t + 8 and 2t + 9 of
/// A are dimensions 4t .. 4t + 3, to match the fragments of K (kv_cache.h).
CRIA_DEVICE uint4 q_fragment(const AttentionKernelArgs& a, const RowPair& rows, int dim_tile) {
  uint32_t pairs[2][2];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int d = 16 * dim_tile + lane_in_warp() % 4 * 4 + 2 * half;
      const bool inside = rows.at[i] >= 0 && d < a.head_dim;
      const float2 x =
          inside ? *reinterpret_cast<const float2*>(a.q + rows.at[i] + d) : make_float2(0.0f, 0.0f);
      pairs[i][half] = pack_f16x2(x.x, x.y);
    }
  return make_uint4(pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]);
}

CRIA_DEVICE void mma(float (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  const uint32_t fragment[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
  mma_f16(c, fragment, columns);
}

/// Causal mask: scores beyond a row's last position become -infinity. `first`: position of column 0.
CRIA_DEVICE void mask_scores(float (&s)[4], const RowPair& rows, int first) {
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (first + lane_in_warp() % 4 * 2 + (i & 1) > rows.last[i >> 1]) s[i] = -INFINITY;
}

/// The maximum over the four lanes that share a row.
CRIA_DEVICE float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}

/// Exponentials of sixteen tokens as a fragment of A. low, high: the scores of columns 0 .. 7 and 8 .. 15.
CRIA_DEVICE uint4 p_fragment(const float (&low)[4], const float (&high)[4], float scale,
                             const float (&max)[2]) {
  float p[8];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    p[i] = exp2_approx(fmaf(low[i], scale, -finite_max(max[i >> 1])));
    p[i + 4] = exp2_approx(fmaf(high[i], scale, -finite_max(max[i >> 1])));
  }
  return make_uint4(pack_f16x2(p[0], p[1]), pack_f16x2(p[2], p[3]), pack_f16x2(p[4], p[5]),
                    pack_f16x2(p[6], p[7]));
}

/// Zeros the tokens from `n_valid` on in a lane's V of sixteen tokens, `first` on. Their p is zero, but an
/// unwritten slot may hold infinity, and zero times that is NaN.
CRIA_DEVICE uint4 mask_values(uint4 v, int first, int n_valid) {
  const int token = first + lane_in_warp() % 4 * 2;
  const uint32_t low = token + 1 < n_valid ? 0xffffffffu : token < n_valid ? 0xffffu : 0;
  const uint32_t high = token + 9 < n_valid ? 0xffffffffu : token + 8 < n_valid ? 0xffffu : 0;
  return make_uint4(v.x & low, v.y & high, v.z & low, v.w & high);
}

/// Adds sixteen tokens of a page: sum += p * 1 and out += p * V. `values`: the page's V; `first`: the first
/// of the tokens; `n_valid`: tokens of the page that hold values. State tile j is the head's dim_tile(j).
template <int kDimTiles, class DimTile>
CRIA_DEVICE void add_values(SoftmaxFragment<kDimTiles>& state, const uint4& p, const uint4* values, int first,
                            int n_valid, int dim_tiles, DimTile dim_tile) {
  mma(state.sum, p, kOnesF16, kOnesF16);
#pragma unroll
  for (int j = 0; j < kDimTiles; j++) {
    if (dim_tile(j) >= dim_tiles) continue;
    uint4 v = values[(first / 16 * dim_tiles + dim_tile(j)) * kWarpSize + lane_in_warp()];
    if (n_valid < kPage) v = mask_values(v, first, n_valid);
    mma(state.out[j][0], p, v.x, v.y);
    mma(state.out[j][1], p, v.z, v.w);
  }
}

/// Writes a normalized state as the rows' result.
template <int kDimTiles, class DimTile>
CRIA_DEVICE void store_out(const AttentionKernelArgs& a, const RowPair& rows,
                           const SoftmaxFragment<kDimTiles>& state, DimTile dim_tile) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (rows.at[r] < 0) continue;
#pragma unroll
    for (int j = 0; j < kDimTiles; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int d = dim_tile(j) * 16 + half * 8 + lane_in_warp() % 4 * 2;
        if (d < a.head_dim)
          *reinterpret_cast<float2*>(a.out + rows.at[r] + d) =
              make_float2(state.out[j][half][2 * r], state.out[j][half][2 * r + 1]);
      }
  }
}

/// cp_async_wait takes a constant.
CRIA_DEVICE void wait_for_copies(int pending) {
  if (pending >= 3)
    cp_async_wait<3>();
  else if (pending == 2)
    cp_async_wait<2>();
  else if (pending == 1)
    cp_async_wait<1>();
  else
    cp_async_wait<0>();
}

/// Copies K and V of a range of pages through a ring of `stages` buffers in shared memory: step 2 * i is K of
/// the i-th page, step 2 * i + 1 its V. All threads of the block call each member.
template <int kThreads>
struct PageStream {
  uint16_t* ring;
  const unsigned char* pages;  // the KV head's block in page 0
  const int32_t* table;        // of the range's first page
  size_t page_stride;
  int32_t page_elements;  // of K, and of V
  int32_t stages, n_steps, next_step, next_page;

  CRIA_DEVICE PageStream(const AttentionKernelArgs& a, uint16_t* ring_memory, int kv_head, int sequence,
                         int first_page, int n_pages)
      : ring(ring_memory),
        pages(a.pages + static_cast<size_t>(kv_head) * (static_cast<size_t>(2 * kPage) * 2 * a.padded)),
        table(a.block_table + static_cast<int64_t>(sequence) * a.block_table_stride + first_page),
        page_stride(a.page_stride),
        page_elements(kPage * a.padded),
        stages(a.stages),
        n_steps(2 * n_pages),
        next_step(0),
        next_page(n_pages > 0 ? table[0] : 0) {
    for (int i = 0; i + 1 < stages; i++) issue();
  }

  CRIA_DEVICE void issue() {
    if (next_step < n_steps) {
      const unsigned char* from = pages + static_cast<size_t>(next_page) * page_stride;
      if (next_step & 1) {
        from += static_cast<size_t>(page_elements) * 2;
        if (next_step + 1 < n_steps)
          next_page = table[(next_step + 1) / 2];  // a step early, to hide its latency
      }
      unsigned char* to = reinterpret_cast<unsigned char*>(ring + next_step % stages * page_elements);
      for (int at = thread_in_block() * 16; at < 2 * page_elements; at += kThreads * 16)
        cp_async<16>(to + at, from + at);
    }
    cp_async_commit();
    next_step++;
  }

  /// Waits for step `step` and returns its data, visible to all threads. The barrier also says that every
  /// thread has finished with the step before, whose buffer the next copy reuses.
  CRIA_DEVICE const uint4* wait(int step) {
    wait_for_copies(stages - 2);
    __syncthreads();
    issue();
    return reinterpret_cast<const uint4*>(ring + step % stages * page_elements);
  }
};

}  // namespace cria::cuda
