// Attention over an f32 cache, for checking models: plain float32, a block for each head of each token.
//
// Order: a score is one chain over the dimensions, each step an fma, times 1 / sqrt(head_dim); pages in
// order, with an online softmax; a page's exponentials: tokens i and i + 32, then warp_sum; an output is one
// chain of fma over the tokens. Slots beyond a token's position may hold anything.
#pragma once

#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

struct SimpleAttentionArgs {
  const float* q;
  float* out;
  const int32_t* positions;
  const int32_t* sequence_of;
  const int32_t* block_table;
  int32_t block_table_stride;
  const unsigned char* pages;
  size_t page_stride;
  int32_t n_heads, n_kv_heads, head_dim, padded;
  float scale;
};

constexpr int kSimpleThreads = 128;

struct SimpleAttentionShared {
  SharedArray<float, kMaxHeadDim> q;
  SharedArray<float, kCudaPageTokens> scores;
};

/// The score of the thread's token of a page.
CRIA_DEVICE float score_token(SimpleAttentionShared& shared, const float* k, int token, int padded) {
  float score = 0.0f;
#pragma unroll 2  // unrolled further, the kernel spills on sm_86
  for (int d = 0; d < padded; d += 4) {
    const float4 x = *reinterpret_cast<const float4*>(k + k_f32_at(token, d));
    score = fmaf(shared.q[d], x.x, score);
    score = fmaf(shared.q[d + 1], x.y, score);
    score = fmaf(shared.q[d + 2], x.z, score);
    score = fmaf(shared.q[d + 3], x.w, score);
  }
  return score;
}

static __global__ void __launch_bounds__(kSimpleThreads) attention_f32_kernel(SimpleAttentionArgs a) {
  SimpleAttentionShared& shared = shared_memory<SimpleAttentionShared>();
  const int head = static_cast<int>(blockIdx.x), token = static_cast<int>(blockIdx.y), me = thread_in_block();
  const int position = a.positions[token];
  if (position < 0) return;
  const int kv_head = head / (a.n_heads / a.n_kv_heads);
  const int64_t row = (static_cast<int64_t>(token) * a.n_heads + head) * a.head_dim;
  const int64_t block_elements = int64_t{2} * kCudaPageTokens * a.padded;
  const int32_t* table = a.block_table + static_cast<int64_t>(a.sequence_of[token]) * a.block_table_stride;
  for (int d = me; d < a.padded; d += kSimpleThreads) shared.q[d] = d < a.head_dim ? a.q[row + d] : 0.0f;

  SoftmaxState<2, exp_exact> state;  // out: dimensions me and me + kSimpleThreads
  state.init();
  for (int first = 0; first <= position; first += kCudaPageTokens) {
    const float* k = reinterpret_cast<const float*>(
                         a.pages + static_cast<size_t>(table[first / kCudaPageTokens]) * a.page_stride) +
                     kv_head * block_elements;
    const float* v = k + kCudaPageTokens * a.padded;
    const int n_valid = min(position - first + 1, kCudaPageTokens);
    __syncthreads();  // q is complete, and the page before has been read
    if (me < kCudaPageTokens)
      shared.scores[me] = me < n_valid ? score_token(shared, k, me, a.padded) * a.scale : -INFINITY;
    __syncthreads();
    // Every warp does the same for itself.
    const float s0 = shared.scores[lane_in_warp()], s1 = shared.scores[lane_in_warp() + 32];
    const float rescale = state.update(warp_max(fmaxf(s0, s1)));
    const float e0 = exp_exact(s0 - state.max), e1 = exp_exact(s1 - state.max);
    state.sum = fmaf(state.sum, rescale, warp_sum(e0 + e1));
    __syncthreads();
    if (warp_in_block() == 0) {
      shared.scores[lane_in_warp()] = e0;
      shared.scores[lane_in_warp() + 32] = e1;
    }
    __syncthreads();
    for (int j = 0; j < 2; j++) {
      const int d = me + j * kSimpleThreads;
      if (d >= a.padded) continue;
      for (int t = 0; t < n_valid; t++)
        state.out[j] = fmaf(shared.scores[t], v[v_f32_at(t, d, a.padded)], state.out[j]);
    }
  }
  state.normalize();
  for (int j = 0; j < 2; j++) {
    const int d = me + j * kSimpleThreads;
    if (d < a.head_dim) a.out[row + d] = state.out[j];
  }
}

}  // namespace cria::cuda
