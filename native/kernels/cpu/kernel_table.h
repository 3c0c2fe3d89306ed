// The CPU kernels of one instruction set: plain functions on raw pointers that know nothing of threads or
// models. Every level fills one table; cpu_backend.cc calls the table that isa.h chose. Orders of summation:
// docs/numerics.md.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/cpu/panel_blocks.h"

namespace cria {

/// Tokens' activations in the form that a weight type multiplies with (activation_dtype in quantize.h).
/// Row t of each array starts at t * its stride, f32, bf16 and q at t * stride. Integer forms: Q8_0 and Q8_1
/// have a scale per 32, Q8_K one per 256. Q8_K lies by super-blocks, so that all tokens' activations of a
/// panel's block are contiguous: q [cols / 256, n, 256], scale and max_abs_sum16 [cols / 256, n], sums16
/// [cols / 256, n, 16].
struct ActivationRows {
  /// f32, f16, bf16, q8_0, q8_1 or q8_k.
  DType dtype;
  int64_t cols;
  /// Elements, at least cols.
  int64_t stride;
  /// [n, cols]: float32, or values rounded to f16.
  const float* f32;
  /// [n, cols].
  const uint16_t* bf16;
  /// [n, cols].
  const int8_t* q;
  /// [n, cols / 32 or 256].
  const float* scale;
  /// q8_1: [n, cols / 32], scale times the block's sum.
  const float* weighted_sum;
  /// [n, cols / 16], rounded up to a multiple of 16 entries a row: the sum of each 16 of q.
  const int16_t* sums16;
  int64_t scale_stride, sums_stride;
  /// q8_k: the largest sum of the magnitudes of 16 of q.
  const int16_t* max_abs_sum16;
};

/// Rows of a quantized matrix that lie together (repack.h).
constexpr int kPanelRows = 32;

/// Whether the CPU repacks weights of this format: the quantized ones.
template <class Block>
constexpr bool kIsRepacked = requires { PanelBlock<Block>::kPanelBits; };

/// A panel's block (panel_blocks.h), as repacking sees it: a 16-bit word before or after its dwords, or none.
/// All zero for the types that are not repacked.
struct BlockShape {
  int cols, dwords;
  bool leading_word, trailing_word;
  constexpr int bytes() const { return 4 * dwords + (leading_word || trailing_word ? 2 : 0); }
};
template <class PanelBlock>
constexpr BlockShape block_shape() {
  constexpr bool has_word = sizeof(PanelBlock) % 4 == 2;
  constexpr bool d_is_first = [] {
    if constexpr (has_word) return offsetof(PanelBlock, d) == 0;
    return false;
  }();
  return {.cols = PanelBlock::kElements,
          .dwords = static_cast<int>(sizeof(PanelBlock) / 4),
          .leading_word = has_word && d_is_first,
          .trailing_word = has_word && !d_is_first};
}
constexpr BlockShape block_shape(DType dtype) {
  return visit_dtype(dtype, [](auto format) -> BlockShape {
    using Block = typename decltype(format)::Block;
    if constexpr (kIsRepacked<Block>)
      return block_shape<PanelBlock<Block>>();
    else
      return {};
  });
}

/// Where dword `at` of a block stands among the block's dwords in a panel: scales first, so that a block is
/// read from its first byte to its last. Those of weights of 3, 5 and 6 bits are rearranged there
/// (bit_layout.h).
template <class PanelBlock>
constexpr int panel_dword(int at) {
  constexpr int kFirst = PanelBlock::kHeaderDword;
  return at >= kFirst ? at - kFirst : at + block_shape<PanelBlock>().dwords - kFirst;
}

/// Up to 32 rows in the file's layout.
struct RowPointers {
  const uint8_t* row[kPanelRows];
  int count;
};

/// A matrix-vector or matrix-matrix product over a range of rows.
struct MatmulRows {
  /// [rows, cols] of `dtype`, as in a file, or repacked.
  const uint8_t* weights;
  DType dtype;
  bool repacked;
  int64_t rows, cols;
  ActivationRows x;
  int64_t n_tokens;
  /// [n_tokens, y_stride]; element (t, r) is y[t * y_stride + r].
  float* y;
  int64_t y_stride;
  /// y += product.
  bool accumulate;
  /// The product is scale * sum + bias[row], each step rounded (Weight in ops.h); bias [rows] or null.
  float scale = 1;
  const float* bias = nullptr;
};

struct RopeRow {
  const float* cos;  // [rope_dim / 2]
  const float* sin;
  int32_t rope_dim, head_dim, n_heads;
  bool half_layout;
};

/// The online softmax (Milakov & Gimelshein 2018) of several rows, as a state: each page updates it, spans
/// are merged, and the end normalizes it. The same state on CUDA: kernels/cuda/attention_softmax.cuh.
struct SoftmaxState {
  /// [rows]: maximum of the scores; -inf where nothing was seen.
  float* max;
  /// [rows]: sum of e^(score - max).
  float* sum;
  /// [rows, out_stride]: sum of e^(score - max) * v, not yet divided by `sum`.
  float* out;
  int32_t out_stride;
};

/// Query heads that share one KV head, of one or more consecutive tokens, over one span of pages. Row
/// i * group + h is head h of the i-th token, which sees i tokens more than the first.
struct AttendSpan {
  const float* q;  // row's head_dim values at q + i * q_token_stride + h * head_dim
  int64_t q_token_stride;
  int32_t n_queries, group, head_dim;
  float scale;           // 1 / sqrt(head_dim)
  const uint8_t* pages;  // page p's block of this KV head: pages + block_table[p] * page_stride
  size_t page_stride;
  const int32_t* block_table;  // of the span's first page on
  int32_t n_tokens;    // tokens of the span that the first query sees; 0 or less when it ends before the span
  int32_t max_tokens;  // the span's length: no query sees more
  bool kv_f32;         // else f16
  SoftmaxState state;  // written: the rows' state after the span alone
};

/// A page of one KV head: K as [head_dim, 32] (a token a lane), then V as [32, head_dim rounded up to 16].
constexpr int32_t kCpuPageTokens = 32;
constexpr int32_t padded_head_dim(int32_t head_dim) { return (head_dim + 15) / 16 * 16; }
constexpr size_t kv_block_elements(int32_t head_dim) {
  return static_cast<size_t>(kCpuPageTokens) * static_cast<size_t>(head_dim + padded_head_dim(head_dim));
}

struct CpuKernels {
  const char* isa;
  /// out[n] = x / sqrt(mean(x^2) + eps) * weight.
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, int64_t n);
  /// Rotates the heads of one token in place.
  void (*rope)(float* x, const RopeRow* args);
  /// Writes one token's k and v of one KV head into slot `slot` of a page.
  void (*append_kv)(const float* k, const float* v, int32_t head_dim, uint8_t* block, int32_t slot,
                    bool kv_f32);
  void (*attend)(const AttendSpan* args);
  /// Merges a later span's state into `state`, for `rows` rows.
  void (*merge_softmax)(const SoftmaxState* state, const SoftmaxState* later, int32_t rows, int32_t head_dim);
  /// h = silu(gate) * up, may be in place.
  void (*silu_mul)(const float* gate, const float* up, float* h, int64_t n);
  void (*quantize_q8_0)(const float* x, int8_t* q, float* scale, float* weighted_sum, int16_t* sums16,
                        int64_t n);
  void (*quantize_q8_k)(const float* x, int8_t* q, float* scale, int16_t* sums16, int16_t* max_abs_sum16,
                        int64_t n);
  void (*round_f16)(const float* x, float* out, int64_t n);
  void (*round_bf16)(const float* x, uint16_t* out, int64_t n);
  /// n finite weights as blocks of `dtype`, with a search for the least error. `importance` is null or [n]:
  /// see quantize_weights() in weight_quantizer.h. False, and nothing done, for a type without a search.
  bool (*quantize_weights)(DType dtype, const float* x, const float* importance, void* out, int64_t n);
  /// Blocks [first_block, first_block + n_blocks) of up to 32 rows, repacked; `out` is aligned to 64.
  void (*repack)(DType dtype, const RowPointers* rows, int64_t first_block, int64_t n_blocks, uint8_t* out);
  /// Bytes of scratch (aligned to 64) that a product with a weight type wants; 0 when the type is not known.
  size_t (*matmul_scratch_bytes)(DType dtype, int64_t n_tokens);
  /// Rows [row_begin, row_end) of the product; row_begin is a multiple of 32.
  void (*matmul)(const MatmulRows* args, int64_t row_begin, int64_t row_end, uint8_t* scratch);
  /// The same rows of two products, h = silu(gate) * up, written to gate's y. `scratch`: for both.
  void (*gate_up)(const MatmulRows* gate, const MatmulRows* up, int64_t row_begin, int64_t row_end,
                  uint8_t* scratch);
  /// The id of the largest logit, the lowest among equals, and log(sum(e^logit)): NaN where one is NaN or
  /// +infinity.
  void (*argmax)(const float* logits, int64_t n, uint32_t* argmax, float* log_sum_exp);

  // For elementary.h. The _stream forms give the same bits and write past the cache: `out` is aligned to 64
  // bytes, is none of the inputs, and sizes are multiples of 16 floats (rope: head_dim, and rope_dim too, or
  // rope_dim / 2 where the layout is halves). Those of rows take many at once, each of n.
  void (*rms_norm_stream)(const float* x, const float* weight, float eps, float* out, int64_t n,
                          int64_t rows);
  /// x += y; out = RMSNorm(x), may be x or y.
  void (*add_rms_norm)(float* x, const float* y, const float* weight, float eps, float* out, int64_t n);
  void (*add_rms_norm_stream)(float* x, const float* y, const float* weight, float eps, float* out, int64_t n,
                              int64_t rows);
  /// One token's heads from x to out; may be in place.
  void (*rope_to)(const float* x, float* out, const RopeRow* args);
  void (*rope_stream)(const float* x, float* out, const RopeRow* args);
  void (*silu_mul_stream)(const float* gate, const float* up, float* h, int64_t n);
  /// e^(x - max) / sum; may be in place.
  void (*softmax)(const float* x, float* out, int64_t n);
  /// `scratch` [2, n].
  void (*softmax_stream)(const float* x, float* scratch, float* out, int64_t n, int64_t rows);
};

}  // namespace cria
