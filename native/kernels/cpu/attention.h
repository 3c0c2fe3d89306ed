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

constexpr int32_t kRowTile = 4;  // query rows that share one read of K and V

CRIA_INLINE int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

// One page for kRows rows from row0 on: scores -> e^(score - max), with max, sum and out brought up to date.
// Row r sees the first n_valid[r] tokens of the page; one that sees none is left as it is.
template <class Kv, int kRows>
static void attend_page(const AttendSpan& a, const typename Kv::Element* k, const int32_t* n_valid,
                        int32_t row0) {
  const int32_t dim = a.head_dim, padded = padded_head_dim(dim);
  const float* q[kRows];
  for (int r = 0; r < kRows; r++)
    q[r] = a.q + (row0 + r) / a.group * a.q_token_stride + (row0 + r) % a.group * static_cast<int64_t>(dim);
  F32x16 scores[kRows][2];
  for (int r = 0; r < kRows; r++) scores[r][0] = scores[r][1] = set1(0.0f);
  for (int32_t d = 0; d < dim; d++) {
    const F32x16 k0 = Kv::load16(k + d * kCpuPageTokens), k1 = Kv::load16(k + d * kCpuPageTokens + 16);
    for (int r = 0; r < kRows; r++) {
      const F32x16 qd = set1(q[r][d]);
      scores[r][0] = fma(qd, k0, scores[r][0]);
      scores[r][1] = fma(qd, k1, scores[r][1]);
    }
  }
  float p[kRows][kCpuPageTokens];
  float rescale[kRows];
  int32_t seen_by_all = kCpuPageTokens, seen_by_any = 0;
  for (int r = 0; r < kRows; r++) {
    seen_by_all = least(seen_by_all, n_valid[r]);
    seen_by_any = n_valid[r] > seen_by_any ? n_valid[r] : seen_by_any;
    rescale[r] = 1.0f;
    if (n_valid[r] == 0) continue;
    store(p[r], mul(scores[r][0], set1(a.scale)));
    store(p[r] + 16, mul(scores[r][1], set1(a.scale)));
    // Slots beyond the context hold whatever the page held before.
    for (int32_t t = n_valid[r]; t < kCpuPageTokens; t++) p[r][t] = -__builtin_inff();
    const F32x16 s0 = load(p[r]), s1 = load(p[r] + 16);
    const float before = a.max[row0 + r];
    const float page_max = reduce_max(max(s0, s1));
    const float now = page_max > before ? page_max : before;
    const F32x16 e0 = exp(sub(s0, set1(now))), e1 = exp(sub(s1, set1(now)));
    store(p[r], e0);
    store(p[r] + 16, e1);
    float first[16];
    store(first, exp(sub(set1(before), set1(now))));
    rescale[r] = first[0];
    a.max[row0 + r] = now;
    a.sum[row0 + r] = __builtin_fmaf(a.sum[row0 + r], rescale[r], reduce_add(add(e0, e1)));
  }
  const auto* v = k + static_cast<int64_t>(kCpuPageTokens) * dim;
  for (int32_t d = 0; d < padded; d += 16) {
    F32x16 acc[kRows];
    for (int r = 0; r < kRows; r++)
      acc[r] = mul(load(a.out + static_cast<int64_t>(row0 + r) * a.out_stride + d), set1(rescale[r]));
    for (int32_t t = 0; t < seen_by_all; t++) {
      const F32x16 value = Kv::load16(v + static_cast<int64_t>(t) * padded + d);
      for (int r = 0; r < kRows; r++) acc[r] = fma(set1(p[r][t]), value, acc[r]);
    }
    // Not by a weight of zero: what a row does not see may be infinite.
    for (int32_t t = seen_by_all; t < seen_by_any; t++) {
      const F32x16 value = Kv::load16(v + static_cast<int64_t>(t) * padded + d);
      for (int r = 0; r < kRows; r++)
        if (t < n_valid[r]) acc[r] = fma(set1(p[r][t]), value, acc[r]);
    }
    for (int r = 0; r < kRows; r++) store(a.out + static_cast<int64_t>(row0 + r) * a.out_stride + d, acc[r]);
  }
}

template <class Kv>
static void attend_pages(const AttendSpan& a) {
  const int32_t rows = a.n_queries * a.group;
  for (int32_t r = 0; r < rows; r++) {
    a.max[r] = -__builtin_inff();
    a.sum[r] = 0.0f;
    for (int32_t d = 0; d < a.out_stride; d++) a.out[static_cast<int64_t>(r) * a.out_stride + d] = 0.0f;
  }
  const int32_t longest = least(a.n_tokens + a.n_queries - 1, a.max_tokens);
  for (int32_t t = 0, page = 0; t < longest; t += kCpuPageTokens, page++) {
    const auto* k = reinterpret_cast<const typename Kv::Element*>(
        a.pages + static_cast<size_t>(a.block_table[page]) * a.page_stride);
    for (int32_t r = 0; r < rows;) {
      const int32_t count = rows - r >= kRowTile ? kRowTile : rows - r >= 2 ? 2 : 1;
      int32_t n_valid[kRowTile], any = 0;
      for (int32_t i = 0; i < count; i++) {
        const int32_t seen = least(a.n_tokens + (r + i) / a.group, a.max_tokens) - t;
        n_valid[i] = seen <= 0 ? 0 : least(seen, kCpuPageTokens);
        any |= n_valid[i];
      }
      if (any != 0) {
        if (count == kRowTile)
          attend_page<Kv, kRowTile>(a, k, n_valid, r);
        else if (count == 2)
          attend_page<Kv, 2>(a, k, n_valid, r);
        else
          attend_page<Kv, 1>(a, k, n_valid, r);
      }
      r += count;
    }
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
