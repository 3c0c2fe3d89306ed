// What both attention kernels of an f16 cache are made of. The arithmetic is here, once: a row's result has
// the same bits from either, whatever rows share its tile.
//
// For a row, in tokens: a page's scores s by mma over the dimensions in order; m' = max(m, c * greatest of s)
// with c = log2(e) / sqrt(head_dim); p = 2^(c * s - m') rounded to f16, in one fma; the sum and the outputs
// become x * r with r = 2^(m - m'), and then take the page's tokens by mma, in order. So begins and ends a
// span; spans are merged in order: r1 = 2^(m1 - m'), r2 = 2^(m2 - m'), x = fma(x2, r2, x1 * r1). At the end
// an output is times 1 / sum.
#pragma once

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

struct AttentionKernelArgs {
  const float* q;
  float* out;
  const AttentionTile* tiles;  // of the kernel's grid; those beyond the plan's have no rows
  const int32_t* block_table;
  const unsigned char* pages;
  uint32_t* counters;
  float2* stats;
  float* partial;
  size_t page_stride;
  int32_t block_table_stride;
  int32_t n_heads, n_kv_heads, group, head_dim, padded;
  int32_t stages;
  float scale;  // c
};

constexpr int kPage = kCudaPageTokens;
constexpr uint32_t kOnesF16 = 0x3c003c00u;

CRIA_DEVICE int span_begin_on_device(int span) {
  return span <= kShortSpans ? span * kShortSpanTokens
                             : kShortContext + (span - kShortSpans) * kLongSpanTokens;
}

/// The two rows of a thread's fragments: g and g + 8 of the sixteen from `first` on.
struct RowPair {
  int64_t at[2];    // offset of the head in q and out; -1: no such row
  int32_t last[2];  // position of its token: the last that it sees
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

/// A fragment of sixteen rows of q, dimensions 16 * step on: A's columns 2t, 2t + 1, 2t + 8, 2t + 9 are
/// dimensions 4t .. 4t + 3, as K's fragments have them.
CRIA_DEVICE uint4 q_fragment(const AttentionKernelArgs& a, const RowPair& rows, int step) {
  uint32_t pairs[2][2];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int d = 16 * step + lane_in_warp() % 4 * 4 + 2 * half;
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

/// Scores of columns that a row does not see become -infinity; `first` is the position of the fragment's
/// column 0.
CRIA_DEVICE void mask_scores(float (&s)[4], const RowPair& rows, int first) {
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (first + lane_in_warp() % 4 * 2 + (i & 1) > rows.last[i >> 1]) s[i] = -INFINITY;
}

/// The greatest of a row over the four lanes that share it.
CRIA_DEVICE float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}

/// 2^x; exactly 1 for 0 and 0 for -infinity.
CRIA_DEVICE float power_of_two(float x) { return exp2_approx(x); }

/// m' for exponents: of a row that has seen nothing, any finite value gives zeros.
CRIA_DEVICE float exponent_base(float greatest) { return greatest == -INFINITY ? 0.0f : greatest; }

/// A's fragment of sixteen tokens' exponentials from the scores of columns 0 .. 7 and 8 .. 15.
CRIA_DEVICE uint4 p_fragment(const float (&low)[4], const float (&high)[4], float scale,
                             const float (&base)[2]) {
  float p[8];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    p[i] = power_of_two(fmaf(low[i], scale, -base[i >> 1]));
    p[i + 4] = power_of_two(fmaf(high[i], scale, -base[i >> 1]));
  }
  return make_uint4(pack_f16x2(p[0], p[1]), pack_f16x2(p[2], p[3]), pack_f16x2(p[4], p[5]),
                    pack_f16x2(p[6], p[7]));
}

/// The factors of a merge, and the greater maximum. What has seen nothing is left out, down to the sign of a
/// zero.
struct MergeScales {
  float now, before, part;
};
CRIA_DEVICE MergeScales merge_scales(float before, float part) {
  MergeScales m;
  m.now = fmaxf(before, part);
  m.before = power_of_two(before - exponent_base(m.now));
  m.part = part == -INFINITY ? -0.0f : power_of_two(part - exponent_base(m.now));
  return m;
}
CRIA_DEVICE float merged(float before, float part, const MergeScales& m) {
  return fmaf(part, m.part, before * m.before);
}

template <int kOwn>
CRIA_DEVICE void begin_span(float (&greatest)[2], float (&sum)[4], float (&out)[kOwn][2][4]) {
  greatest[0] = greatest[1] = -INFINITY;
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] = 0.0f;
#pragma unroll
  for (int j = 0; j < kOwn; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) out[j][0][i] = out[j][1][i] = 0.0f;
}

/// Merges a span that has ended into what lies before it.
template <int kOwn>
CRIA_DEVICE void merge_into(float (&total_greatest)[2], float (&total_sum)[2], float (&total)[kOwn][2][4],
                            const float (&greatest)[2], const float (&sum)[4],
                            const float (&out)[kOwn][2][4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const MergeScales m = merge_scales(total_greatest[r], greatest[r]);
    total_greatest[r] = m.now;
    total_sum[r] = merged(total_sum[r], sum[2 * r], m);
#pragma unroll
    for (int j = 0; j < kOwn; j++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        total[j][half][2 * r] = merged(total[j][half][2 * r], out[j][half][2 * r], m);
        total[j][half][2 * r + 1] = merged(total[j][half][2 * r + 1], out[j][half][2 * r + 1], m);
      }
  }
}

/// The row's new greatest score and base of exponents, from a page's greatest; what to multiply the sums
/// with.
CRIA_DEVICE float raise_greatest(float& greatest, float& base, float page_greatest, float scale) {
  const float now = fmaxf(greatest, page_greatest * scale);
  base = exponent_base(now);
  const float rescale = power_of_two(greatest - base);
  greatest = now;
  return rescale;
}

template <int kOwn>
CRIA_DEVICE void rescale_sums(float (&sum)[4], float (&out)[kOwn][2][4], const float (&rescale)[2]) {
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] *= rescale[i >> 1];
#pragma unroll
  for (int j = 0; j < kOwn; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      out[j][0][i] *= rescale[i >> 1];
      out[j][1][i] *= rescale[i >> 1];
    }
}

/// Zeros for tokens from `n_valid` on, in a lane's V of the sixteen tokens from `first` on: their weight is
/// zero, but what the slot holds may be infinite.
CRIA_DEVICE uint4 mask_values(uint4 v, int first, int n_valid) {
  const int token = first + lane_in_warp() % 4 * 2;
  const uint32_t low = token + 1 < n_valid ? 0xffffffffu : token < n_valid ? 0xffffu : 0;
  const uint32_t high = token + 9 < n_valid ? 0xffffffffu : token + 8 < n_valid ? 0xffffu : 0;
  return make_uint4(v.x & low, v.y & high, v.z & low, v.w & high);
}

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

/// K and V of a range of pages on their way through a ring of shared memory: step 2 * i is K of the i-th
/// page, the next its V. All threads of the block take part.
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
        if (next_step + 1 < n_steps) next_page = table[(next_step + 1) / 2];  // early: it takes a while
      }
      unsigned char* to = reinterpret_cast<unsigned char*>(ring + next_step % stages * page_elements);
      for (int at = thread_in_block() * 16; at < 2 * page_elements; at += kThreads * 16)
        cp_async<16>(to + at, from + at);
    }
    cp_async_commit();
    next_step++;
  }

  /// What step `step` brought, for all threads; every thread is done with what the step before brought.
  CRIA_DEVICE const uint4* arrive(int step) {
    wait_for_copies(stages - 2);
    __syncthreads();
    issue();
    return reinterpret_cast<const uint4*>(ring + step % stages * page_elements);
  }
};

}  // namespace cria::cuda
