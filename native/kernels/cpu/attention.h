// Grouped-query attention over one span of pages (online softmax: Milakov & Gimelshein 2018). Compiled per
// level.
//
// Order, the same whatever the batch, chunk or thread: scores sum over head_dim in order, one chain; pages in
// order; within a page the exponentials are summed by the tree of 2 x 16 lanes and the values are added token
// by token.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

struct KvF16 {
  using Element = uint16_t;
  CRIA_INLINE F32x16 load16(const Element* p) { return load_f16(p); }
};
struct KvF32 {
  using Element = float;
  CRIA_INLINE F32x16 load16(const Element* p) { return load(p); }
};

constexpr int32_t kGroupTile = 4;  // query heads that share one read of K and V

// Scores of 32 tokens for up to kGroupTile heads -> e^(score - max) in p, with max, sum and out rescaled.
template <class Kv, int kHeads>
static void attend_page(const AttendSpan& a, const typename Kv::Element* k, int32_t n_valid, int32_t head0) {
  const int32_t dim = a.head_dim;
  const float* q = a.q + static_cast<int64_t>(head0) * dim;
  F32x16 scores[kHeads][2];
  for (int h = 0; h < kHeads; h++) scores[h][0] = scores[h][1] = set1(0.0f);
  for (int32_t d = 0; d < dim; d++) {
    const F32x16 k0 = Kv::load16(k + d * kCpuPageTokens), k1 = Kv::load16(k + d * kCpuPageTokens + 16);
    for (int h = 0; h < kHeads; h++) {
      const F32x16 qd = set1(q[static_cast<int64_t>(h) * dim + d]);
      scores[h][0] = fma(qd, k0, scores[h][0]);
      scores[h][1] = fma(qd, k1, scores[h][1]);
    }
  }
  const auto* v = k + static_cast<int64_t>(kCpuPageTokens) * dim;
  const int32_t padded = padded_head_dim(dim);
  float p[kHeads][kCpuPageTokens];
  float rescale[kHeads];
  for (int h = 0; h < kHeads; h++) {
    store(p[h], mul(scores[h][0], set1(a.scale)));
    store(p[h] + 16, mul(scores[h][1], set1(a.scale)));
    // Slots beyond the context hold whatever the page held before.
    for (int32_t t = n_valid; t < kCpuPageTokens; t++) p[h][t] = -__builtin_inff();
    const F32x16 s0 = load(p[h]), s1 = load(p[h] + 16);
    const float before = a.max[head0 + h];
    const float page_max = reduce_max(max(s0, s1));
    const float now = page_max > before ? page_max : before;
    const F32x16 e0 = exp(sub(s0, set1(now))), e1 = exp(sub(s1, set1(now)));
    store(p[h], e0);
    store(p[h] + 16, e1);
    float first[16];
    store(first, exp(sub(set1(before), set1(now))));
    rescale[h] = first[0];
    a.max[head0 + h] = now;
    a.sum[head0 + h] = __builtin_fmaf(a.sum[head0 + h], rescale[h], reduce_add(add(e0, e1)));
  }
  for (int32_t d = 0; d < padded; d += 16) {
    F32x16 acc[kHeads];
    for (int h = 0; h < kHeads; h++) {
      float* out = a.out + static_cast<int64_t>(head0 + h) * a.out_stride + d;
      acc[h] = mul(load(out), set1(rescale[h]));
    }
    for (int32_t t = 0; t < n_valid; t++) {
      const F32x16 value = Kv::load16(v + static_cast<int64_t>(t) * padded + d);
      for (int h = 0; h < kHeads; h++) acc[h] = fma(set1(p[h][t]), value, acc[h]);
    }
    for (int h = 0; h < kHeads; h++)
      store(a.out + static_cast<int64_t>(head0 + h) * a.out_stride + d, acc[h]);
  }
}

template <class Kv>
static void attend_pages(const AttendSpan& a) {
  for (int32_t h = 0; h < a.group; h++) {
    a.max[h] = -__builtin_inff();
    a.sum[h] = 0.0f;
    for (int32_t d = 0; d < a.out_stride; d++) a.out[static_cast<int64_t>(h) * a.out_stride + d] = 0.0f;
  }
  for (int32_t t = 0, page = 0; t < a.n_tokens; t += kCpuPageTokens, page++) {
    const auto* k = reinterpret_cast<const typename Kv::Element*>(
        a.pages + static_cast<size_t>(a.block_table[page]) * a.page_stride);
    const int32_t n_valid = a.n_tokens - t < kCpuPageTokens ? a.n_tokens - t : kCpuPageTokens;
    int32_t h = 0;
    for (; h + kGroupTile <= a.group; h += kGroupTile) attend_page<Kv, kGroupTile>(a, k, n_valid, h);
    for (; h + 2 <= a.group; h += 2) attend_page<Kv, 2>(a, k, n_valid, h);
    for (; h < a.group; h++) attend_page<Kv, 1>(a, k, n_valid, h);
  }
}

static void attend(const AttendSpan* args) {
  if (args->kv_f32)
    attend_pages<KvF32>(*args);
  else
    attend_pages<KvF16>(*args);
}

static void merge_spans(float* max, float* sum, float* out, const float* max2, const float* sum2,
                        const float* out2, int32_t group, int32_t head_dim, int32_t out_stride) {
  for (int32_t h = 0; h < group; h++) {
    const float now = max2[h] > max[h] ? max2[h] : max[h];
    float scale[16];
    const F32x16 s1 = exp(sub(set1(max[h]), set1(now))), s2 = exp(sub(set1(max2[h]), set1(now)));
    store(scale, mul(set1(sum[h]), s1));
    const float kept = scale[0];
    store(scale, fma(set1(sum2[h]), s2, set1(kept)));
    sum[h] = scale[0];
    max[h] = now;
    for (int32_t d = 0; d < head_dim; d += 16) {
      float* a = out + static_cast<int64_t>(h) * out_stride + d;
      store(a, fma(load(out2 + static_cast<int64_t>(h) * out_stride + d), s2, mul(load(a), s1)));
    }
  }
}

}  // namespace cria::CRIA_ISA
