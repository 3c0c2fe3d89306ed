// Grouped-query attention over one span of pages (online softmax: Milakov & Gimelshein 2018). Compiled once
// per ISA level. A row is one query head of one token (AttendSpan).
//
// Order of summation, the same whatever the batch, chunk or thread: a score is one chain over head_dim, in
// order; pages come in order; within a page the exponentials are summed by the tree of 2 x 16 lanes and the
// values are added token by token. The schedule is free: a block of pages computes all its scores, then all
// its exponentials, then its values, so each phase has many independent chains in flight.
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

// Query rows that share one read of K and V.
constexpr int32_t kRowTile = 4;
// Pages of a block: at most 16, one lane each.
constexpr int32_t kBlockPages = 8;
constexpr int32_t kBlockTokens = kBlockPages * kCpuPageTokens;
// Prefetch distance in pieces, a piece being K or V of one page.
constexpr int32_t kPagesAhead = 2;
// Vectors of sixteen tokens (scores) or dimensions (values) of a tile. With four rows, four vectors make
// sixteen accumulators, which hide the four cycles of an fma. Where a vector is several registers, one is
// enough.
#if defined(CRIA_WIDE)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 1;
#endif

CRIA_INLINE int32_t min(int32_t a, int32_t b) { return a < b ? a : b; }

// A block of pages, and the kRows rows that attend to it.
template <class Kv, int kRows>
struct AttendBlock {
  using Element = typename Kv::Element;
  const float* q[kRows];
  int32_t seen[kRows];  // number of the block's tokens that row r attends to; non-decreasing
  // In the order of reading: every page's K, every page's V, and the next block's first, only to prefetch.
  const Element* pieces[2 * kBlockPages + kPagesAhead];
  int32_t pages;
  float p[kRows][kBlockTokens];  // scores, then e^(score - max), max being the running one at page end
  float rescale[kRows][16];      // for each page: e^(old max - new max)
};

// Scores of kVectors * 16 tokens, from the block's token 16 * first on.
template <int kVectors, class Kv, int kRows>
CRIA_INLINE void score(AttendBlock<Kv, kRows>& b, int32_t first, int32_t dim, float scale) {
  const typename Kv::Element *k[kVectors], *ahead[kVectors];
  F32x16 sum[kRows][kVectors];
  for (int v = 0; v < kVectors; v++) {
    const int32_t page = (first + v) / 2, at = (first + v) % 2 * 16;
    k[v] = b.pieces[page] + at;
    ahead[v] = b.pieces[page + kPagesAhead] + at;
    for (int r = 0; r < kRows; r++) sum[r][v] = set1(0.0f);
  }
  for (int32_t d = 0; d < dim; d++) {
    F32x16 key[kVectors];
    for (int v = 0; v < kVectors; v++) {
      key[v] = Kv::load16(k[v] + d * kCpuPageTokens);
      if (v % 2 == 0 || sizeof(typename Kv::Element) > 2) prefetch(ahead[v] + d * kCpuPageTokens);
    }
    for (int r = 0; r < kRows; r++) {
      const F32x16 qd = set1(b.q[r][d]);
      for (int v = 0; v < kVectors; v++) sum[r][v] = fma(qd, key[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int v = 0; v < kVectors; v++) store(b.p[r] + (first + v) * 16, sum[r][v] * scale);
}

// Turns the scores `p` of one row into exponentials, page by page, and updates the row's max and sum.
// rescale[i] is the factor by which `out` must be multiplied before page i is added.
CRIA_INLINE void exponentials(float* p, float* rescale, int32_t seen, float* max, float* sum) {
  const int32_t pages = (seen + kCpuPageTokens - 1) / kCpuPageTokens;
  // Slots of the last page beyond `seen` may be unwritten, so their scores can be anything.
  for (int32_t t = seen; t < pages * kCpuPageTokens; t++) p[t] = -__builtin_inff();
  float running[17];  // the maximum before the block, and up to each page's end
  running[0] = *max;
  for (int32_t i = 0; i < pages; i++) {
    const float page_max = reduce_max(cria::CRIA_ISA::max(load(p + i * 32), load(p + i * 32 + 16)));
    running[i + 1] = page_max > running[i] ? page_max : running[i];
  }
  for (int32_t i = pages; i < 16; i++) running[i + 1] = running[pages];
  store(rescale, exp_nonpositive(load(running) - load(running + 1)));
  float total = *sum;
  for (int32_t i = 0; i < pages; i++) {
    float* const at = p + i * kCpuPageTokens;
    const F32x16 now = set1(running[i + 1]);
    const F32x16 e0 = exp_nonpositive(load(at) - now), e1 = exp_nonpositive(load(at + 16) - now);
    store(at, e0);
    store(at + 16, e1);
    total = __builtin_fmaf(total, rescale[i], reduce_add(e0 + e1));
  }
  *max = running[pages];
  *sum = total;
}

// out = out * rescale + p * V, for pages [page, end) of the block and kVectors * 16 dimensions from d on.
// `padded`: padded_head_dim(), the stride of V from token to token.
template <int kVectors, class Kv, int kRows>
CRIA_INLINE void add_values(const AttendBlock<Kv, kRows>& b, int32_t page, int32_t end, int32_t d,
                            int32_t padded, float* out, int64_t out_stride) {
  F32x16 acc[kRows][kVectors];
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < kVectors; i++) acc[r][i] = load(out + r * out_stride + d + 16 * i);
  for (; page < end; page++) {
    const auto *v = b.pieces[b.pages + page] + d, *ahead = b.pieces[b.pages + page + kPagesAhead] + d;
    const int32_t first = page * kCpuPageTokens, seen_by_all = min(b.seen[0] - first, kCpuPageTokens),
                  seen_by_any = min(b.seen[kRows - 1] - first, kCpuPageTokens);
    for (int r = 0; r < kRows; r++)
      for (int i = 0; i < kVectors; i++) acc[r][i] *= b.rescale[r][page];
    int32_t t = 0;
    for (; t < seen_by_all; t++, v += padded, ahead += padded) {
      F32x16 value[kVectors];
      for (int i = 0; i < kVectors; i++) {
        value[i] = Kv::load16(v + 16 * i);
        if (i % 2 == 0 || sizeof(*v) > 2) prefetch(ahead + 16 * i);
      }
      for (int r = 0; r < kRows; r++) {
        const F32x16 weight = set1(b.p[r][first + t]);
        for (int i = 0; i < kVectors; i++) acc[r][i] = fma(weight, value[i], acc[r][i]);
      }
    }
    // Tokens that only some rows see. Setting p to 0 is not enough: an unseen value may be infinite.
    for (; t < seen_by_any; t++, v += padded)
      for (int r = 0; r < kRows; r++) {
        if (first + t >= b.seen[r]) continue;
        const F32x16 weight = set1(b.p[r][first + t]);
        for (int i = 0; i < kVectors; i++) acc[r][i] = fma(weight, Kv::load16(v + 16 * i), acc[r][i]);
      }
  }
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < kVectors; i++) store(out + r * out_stride + d + 16 * i, acc[r][i]);
}

// Updates the states of kRows rows, from row0 on, with the block of pages from token `begin` of the span on.
// `longest`: tokens of the span that the last row sees, the most of all.
template <class Kv, int kRows>
static void attend_block(const AttendSpan& a, int32_t begin, int32_t longest, int32_t row0) {
  using Element = typename Kv::Element;
  AttendBlock<Kv, kRows> b;
  for (int r = 0; r < kRows; r++) {
    const int32_t query = (row0 + r) / a.group, head = (row0 + r) % a.group;
    b.q[r] = a.q + query * a.q_token_stride + head * static_cast<int64_t>(a.head_dim);
    const int32_t seen = min(min(a.n_tokens + query, a.max_tokens) - begin, kBlockTokens);
    b.seen[r] = seen > 0 ? seen : 0;
  }
  const int32_t seen = b.seen[kRows - 1];
  if (seen == 0) return;

  const int32_t dim = a.head_dim, padded = padded_head_dim(dim), first_page = begin / kCpuPageTokens;
  const int32_t all_pages = (longest + kCpuPageTokens - 1) / kCpuPageTokens;
  const auto k_of = [&](int32_t page) {
    return reinterpret_cast<const Element*>(a.pages + static_cast<size_t>(a.block_table[first_page + page]) *
                                                          a.page_stride);
  };
  b.pages = (seen + kCpuPageTokens - 1) / kCpuPageTokens;
  for (int32_t i = 0; i < b.pages; i++) {
    b.pieces[i] = k_of(i);
    b.pieces[b.pages + i] = b.pieces[i] + static_cast<int64_t>(kCpuPageTokens) * dim;
  }
  for (int32_t i = 0; i < kPagesAhead; i++) {
    const bool is_there = first_page + b.pages + i < all_pages;
    b.pieces[2 * b.pages + i] = is_there ? k_of(b.pages + i) : b.pieces[i];
  }

  const int32_t vectors = (seen + 15) / 16;
  int32_t v = 0;
  for (; v + kTileVectors <= vectors; v += kTileVectors) score<kTileVectors>(b, v, dim, a.scale);
  for (; v < vectors; v++) score<1>(b, v, dim, a.scale);
  for (int r = 0; r < kRows; r++) {
    for (int i = 0; i < 16; i++) b.rescale[r][i] = 1.0f;
    if (b.seen[r] > 0)
      exponentials(b.p[r], b.rescale[r], b.seen[r], a.state.max + row0 + r, a.state.sum + row0 + r);
  }
  const int64_t out_stride = a.state.out_stride;
  float* const out = a.state.out + row0 * out_stride;
  // A head of one tile stays in registers from page to page; with more tiles, pages are read in memory order.
  const int32_t at_once = padded == 16 * kTileVectors ? b.pages : 1;
  for (int32_t page = 0; page < b.pages; page += at_once) {
    int32_t d = 0;
    for (; d + 16 * kTileVectors <= padded; d += 16 * kTileVectors)
      add_values<kTileVectors>(b, page, page + at_once, d, padded, out, out_stride);
    for (; d < padded; d += 16) add_values<1>(b, page, page + at_once, d, padded, out, out_stride);
  }
}

CRIA_INLINE void init_softmax(const SoftmaxState& state, int32_t rows) {
  for (int32_t r = 0; r < rows; r++) {
    state.max[r] = -__builtin_inff();
    state.sum[r] = 0.0f;
    float* const out = state.out + static_cast<int64_t>(r) * state.out_stride;
    for (int32_t d = 0; d < state.out_stride; d++) out[d] = 0.0f;
  }
}

// Every row against every block of pages of the span.
template <class Kv>
static void attend_pages(const AttendSpan& a) {
  const int32_t rows = a.n_queries * a.group;
  init_softmax(a.state, rows);
  const int32_t longest = min(a.n_tokens + a.n_queries - 1, a.max_tokens);
  for (int32_t t = 0; t < longest; t += kBlockTokens) {
    int32_t r = 0;
    for (; r + kRowTile <= rows; r += kRowTile) attend_block<Kv, kRowTile>(a, t, longest, r);
    if (rows - r == 3)
      attend_block<Kv, 3>(a, t, longest, r);
    else if (rows - r == 2)
      attend_block<Kv, 2>(a, t, longest, r);
    else if (rows - r == 1)
      attend_block<Kv, 1>(a, t, longest, r);
  }
}

static void attend(const AttendSpan* args) {
  if (args->kv_f32)
    attend_pages<KvF32>(*args);
  else
    attend_pages<KvF16>(*args);
}

// Merges the state of a later span into `state`: both are brought to their common maximum and added. All
// lanes of the two scales are equal; the sum is computed in vectors, too, and taken from lane 0.
static void merge_softmax(const SoftmaxState* state, const SoftmaxState* later, int32_t rows,
                          int32_t head_dim) {
  for (int32_t r = 0; r < rows; r++) {
    float &max = state->max[r], &sum = state->sum[r];
    const float now = later->max[r] > max ? later->max[r] : max;
    const F32x16 earlier_scale = exp(set1(max) - now), later_scale = exp(set1(later->max[r]) - now);
    max = now;
    float lanes[16];
    store(lanes, sum * earlier_scale);
    const float kept = lanes[0];
    store(lanes, fma(set1(later->sum[r]), later_scale, set1(kept)));
    sum = lanes[0];
    float* const out = state->out + static_cast<int64_t>(r) * state->out_stride;
    const float* const later_out = later->out + static_cast<int64_t>(r) * later->out_stride;
    for (int32_t d = 0; d < head_dim; d += 16)
      store(out + d, fma(load(later_out + d), later_scale, load(out + d) * earlier_scale));
  }
}

}  // namespace cria::CRIA_ISA
