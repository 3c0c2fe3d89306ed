#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/quantize.h"

namespace cria {
namespace {

constexpr std::int64_t kRowChunk = 32;       // rows of a product that one thread takes at a time
constexpr std::int64_t kPanelMinTokens = 4;  // fewer tokens do not pay for the unpacking
constexpr std::int32_t kSpanTokens = 512;    // attention's partial results: part of the order of summation

float* at_least(std::vector<float>& v, std::int64_t n) {
  if (v.size() < static_cast<std::size_t>(n)) v.resize(static_cast<std::size_t>(n));
  return v.data();
}

}  // namespace

MatmulRows CpuOps::matmul_rows(const Weight& weight, const ActivationRows& x, std::int64_t n_tokens, float* y,
                               std::int64_t y_stride, bool accumulate) const {
  return {static_cast<const std::uint8_t*>(weight.data),
          weight.dtype,
          weight.rows,
          weight.cols,
          x,
          n_tokens,
          y,
          y_stride,
          accumulate};
}

bool CpuOps::wants_panels(std::int64_t n_tokens, std::size_t scratch_bytes) {
  if (n_tokens < kPanelMinTokens || scratch_bytes == 0) return false;
  constexpr std::size_t kAlignment = 4096;
  scratch_bytes = (scratch_bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (scratch_bytes > scratch_stride_) {
    scratch_stride_ = scratch_bytes;
    const std::size_t total = scratch_bytes * static_cast<std::size_t>(pool_.size());
    scratch_memory_.resize(total + kAlignment);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch_memory_.data());
    scratch_ = std::span(scratch_memory_).subspan((kAlignment - address % kAlignment) % kAlignment, total);
  }
  return true;
}

const float* CpuOps::normalize(const float* x, const Weight& norm, float eps, std::int64_t n_tokens) {
  const std::int64_t hidden = norm.cols;
  float* out = at_least(normalized_, n_tokens * hidden);
  pool_.parallel_for(n_tokens, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++)
      kernels_.rms_norm(x + t * hidden, static_cast<const float*>(norm.data), eps, out + t * hidden, hidden);
  });
  return out;
}

void CpuOps::multiply(const Product* products, int n, const float* x, std::int64_t n_tokens) {
  MatmulRows rows[kMaxProducts];
  std::int64_t first_chunk[kMaxProducts + 1] = {0};
  ActivationRows acts[kMaxProducts];
  int n_prepared = 0;
  for (int i = 0; i < n; i++) {
    const Weight& w = products[i].weight;
    int p = 0;
    while (p < n_prepared && acts[p].dtype != activation_dtype(w.dtype)) p++;
    if (p == n_prepared) {
      acts[p] = activations_[p].prepare(kernels_, pool_, w.dtype, x, n_tokens, w.cols);
      n_prepared++;
    }
    rows[i] = matmul_rows(w, acts[p], n_tokens, products[i].y, products[i].y_stride, products[i].accumulate);
    first_chunk[i + 1] = first_chunk[i] + (w.rows + kRowChunk - 1) / kRowChunk;
  }
  bool panels[kMaxProducts] = {};
  std::size_t scratch_bytes = 0;
  for (int i = 0; i < n && kernels_.matmul_panel; i++) {
    const std::size_t bytes = kernels_.panel_scratch_bytes(rows[i].dtype, rows[i].cols);
    panels[i] = bytes > 0;
    scratch_bytes = std::max(scratch_bytes, bytes);
  }
  const bool wide = wants_panels(n_tokens, scratch_bytes);
  pool_.parallel_for(first_chunk[n], 1, [&](std::int64_t begin, std::int64_t, int thread) {
    int i = 0;
    while (begin >= first_chunk[i + 1]) i++;
    const std::int64_t row = (begin - first_chunk[i]) * kRowChunk,
                       end = std::min(row + kRowChunk, rows[i].rows);
    if (wide && panels[i])
      kernels_.matmul_panel(&rows[i], row, end, scratch(thread));
    else
      kernels_.matmul(&rows[i], row, end);
  });
}

void CpuOps::embed(const EmbedArgs& args) {
  const std::int64_t hidden = args.embedding.cols;
  const std::size_t bytes = row_bytes(args.embedding.dtype, static_cast<std::size_t>(hidden));
  const auto* table = static_cast<const std::byte*>(args.embedding.data);
  pool_.parallel_for(args.batch->n_tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++)
      dequantize_row(args.embedding.dtype, table + args.batch->tokens[t] * bytes, args.x + t * hidden,
                     hidden);
  });
}

void CpuOps::attention_input(const AttentionInputArgs& args) {
  const AttentionShape& s = args.shape;
  const std::int64_t n = args.batch->n_tokens;
  const std::int64_t q_dim = static_cast<std::int64_t>(s.n_heads) * s.head_dim;
  const std::int64_t kv_dim = static_cast<std::int64_t>(s.n_kv_heads) * s.head_dim;
  const float* x = normalize(args.x, args.layer->attention_norm, args.rms_norm_eps, n);
  float* k = at_least(k_, n * kv_dim);
  float* v = at_least(v_, n * kv_dim);
  const Product products[3] = {{args.layer->query, args.q, q_dim, false},
                               {args.layer->key, k, kv_dim, false},
                               {args.layer->value, v, kv_dim, false}};
  multiply(products, 3, x, n);

  const bool f32 = args.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(s.head_dim) * (f32 ? 4 : 2);
  pool_.parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      const std::int32_t half = s.rope_dim / 2, position = args.batch->positions[t];
      RopeRow rope{args.batch->rope_cos + t * half,
                   args.batch->rope_sin + t * half,
                   s.rope_dim,
                   s.head_dim,
                   s.n_heads,
                   s.rope_half_layout};
      kernels_.rope(args.q + t * q_dim, &rope);
      rope.n_heads = s.n_kv_heads;
      kernels_.rope(k + t * kv_dim, &rope);
      const std::int32_t page =
          args.batch->block_table[static_cast<std::int64_t>(args.batch->sequence_of[t]) *
                                      args.batch->block_table_stride +
                                  position / kCpuPageTokens];
      auto* block = reinterpret_cast<std::uint8_t*>(args.kv.pages +
                                                    static_cast<std::size_t>(page) * args.kv.page_stride);
      for (std::int32_t h = 0; h < s.n_kv_heads; h++)
        kernels_.append_kv(k + t * kv_dim + h * s.head_dim, v + t * kv_dim + h * s.head_dim, s.head_dim,
                           block + static_cast<std::size_t>(h) * block_bytes, position % kCpuPageTokens, f32);
    }
  });
}

void CpuOps::paged_attention(const PagedAttentionArgs& args) {
  const AttentionShape& s = args.shape;
  const Batch& batch = *args.batch;
  const std::int32_t group = s.n_heads / s.n_kv_heads, padded = padded_head_dim(s.head_dim);
  const bool f32 = args.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(s.head_dim) * (f32 ? 4 : 2);

  // An item is one KV head of one token over one span. Spans are cut at fixed positions and merged in order,
  // so who computes them, and in how many pieces, changes nothing.
  std::int32_t max_spans = 1;
  for (std::int32_t t = 0; t < batch.n_tokens; t++)
    max_spans = std::max(max_spans, batch.positions[t] / kSpanTokens + 1);
  const std::int64_t heads = static_cast<std::int64_t>(batch.n_tokens) * s.n_kv_heads;
  const bool split = max_spans > 1 && heads < 8 * pool_.size();
  const std::int64_t parts = split ? max_spans : 1;
  // Without the split each thread merges as it goes and needs room for two partial results: an item keeps its
  // own.
  const std::int64_t slots = split ? heads * parts : heads * 2;
  float* partial = at_least(partial_, slots * group * padded);
  float* max_sum = at_least(partial_max_sum_, slots * group * 2);

  const auto attend = [&](std::int64_t item, std::int32_t span, std::int64_t slot) {
    const std::int64_t t = item / s.n_kv_heads, kv_head = item % s.n_kv_heads;
    const std::int32_t context = batch.positions[t] + 1, first = span * kSpanTokens;
    AttendSpan a;
    a.q = args.q + (t * s.n_heads + kv_head * group) * s.head_dim;
    a.group = group;
    a.head_dim = s.head_dim;
    a.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    a.pages = reinterpret_cast<const std::uint8_t*>(args.kv.pages) +
              static_cast<std::size_t>(kv_head) * block_bytes;
    a.page_stride = args.kv.page_stride;
    a.block_table = batch.block_table +
                    static_cast<std::int64_t>(batch.sequence_of[t]) * batch.block_table_stride +
                    first / kCpuPageTokens;
    a.n_tokens = std::min(context - first, kSpanTokens);
    a.kv_f32 = f32;
    a.max = max_sum + slot * group * 2;
    a.sum = a.max + group;
    a.out = partial + slot * group * padded;
    a.out_stride = padded;
    kernels_.attend(&a);
  };
  const auto merge = [&](std::int64_t into, std::int64_t from) {
    float* a = max_sum + into * group * 2;
    const float* b = max_sum + from * group * 2;
    kernels_.merge_spans(a, a + group, partial + into * group * padded, b, b + group,
                         partial + from * group * padded, group, s.head_dim, padded);
  };
  const auto finish = [&](std::int64_t item, std::int64_t slot) {
    float* out = args.out + item * group * s.head_dim;  // [token][kv head][group] is [token][head]
    for (std::int32_t h = 0; h < group; h++) {
      const float inverse = 1.0f / max_sum[slot * group * 2 + group + h];
      const float* from = partial + (slot * group + h) * padded;
      for (std::int32_t d = 0; d < s.head_dim; d++) out[h * s.head_dim + d] = from[d] * inverse;
    }
  };
  const auto spans_of = [&](std::int64_t item) {
    return batch.positions[item / s.n_kv_heads] / kSpanTokens + 1;
  };

  if (split) {
    pool_.parallel_for(heads * parts, 1, [&](std::int64_t i, std::int64_t) {
      const auto span = static_cast<std::int32_t>(i % parts);
      if (span < spans_of(i / parts)) attend(i / parts, span, i);
    });
    for (std::int64_t item = 0; item < heads; item++) {
      for (std::int32_t span = 1; span < spans_of(item); span++) merge(item * parts, item * parts + span);
      finish(item, item * parts);
    }
  } else {
    pool_.parallel_for(heads, 1, [&](std::int64_t item, std::int64_t) {
      attend(item, 0, item * 2);
      for (std::int32_t span = 1; span < spans_of(item); span++) {
        attend(item, span, item * 2 + 1);
        merge(item * 2, item * 2 + 1);
      }
      finish(item, item * 2);
    });
  }
}

void CpuOps::project_residual(const ProjectResidualArgs& args) {
  const Product product{args.weight, args.x, args.weight.rows, true};
  multiply(&product, 1, args.h, args.n_tokens);
}

void CpuOps::swiglu(const SwigluArgs& args) {
  const Weight &gate = args.layer->gate, &up = args.layer->up;
  const float* x = normalize(args.x, args.layer->ffn_norm, args.rms_norm_eps, args.n_tokens);
  const ActivationRows gate_x =
      activations_[0].prepare(kernels_, pool_, gate.dtype, x, args.n_tokens, gate.cols);
  const ActivationRows up_x =
      activation_dtype(up.dtype) == gate_x.dtype
          ? gate_x
          : activations_[1].prepare(kernels_, pool_, up.dtype, x, args.n_tokens, up.cols);
  const MatmulRows gate_rows = matmul_rows(gate, gate_x, args.n_tokens, args.h, gate.rows, false);
  const MatmulRows up_rows = matmul_rows(up, up_x, args.n_tokens, nullptr, up.rows, false);
  std::size_t gate_bytes = 0, up_bytes = 0;
  if (kernels_.gate_up_panel) {
    gate_bytes = kernels_.panel_scratch_bytes(gate.dtype, gate.cols);
    up_bytes = kernels_.panel_scratch_bytes(up.dtype, up.cols);
  }
  const bool wide = gate_bytes > 0 && up_bytes > 0 && wants_panels(args.n_tokens, gate_bytes + up_bytes);
  pool_.parallel_for(gate.rows, kRowChunk, [&](std::int64_t begin, std::int64_t end, int thread) {
    if (wide)
      kernels_.gate_up_panel(&gate_rows, &up_rows, begin, end, scratch(thread));
    else
      kernels_.gate_up(&gate_rows, &up_rows, begin, end);
  });
}

void CpuOps::logits(const LogitsArgs& args) {
  const std::int64_t hidden = args.norm.cols;
  float* rows = at_least(gathered_, static_cast<std::int64_t>(args.n_rows) * hidden);
  for (std::int32_t i = 0; i < args.n_rows; i++)
    std::memcpy(rows + i * hidden, args.x + args.rows[i] * hidden,
                static_cast<std::size_t>(hidden) * sizeof(float));
  const float* x = normalize(rows, args.norm, args.rms_norm_eps, args.n_rows);
  const Product product{args.output, args.logits, args.output.rows, false};
  multiply(&product, 1, x, args.n_rows);
}

void CpuOps::sample(const SampleArgs& args) {
  pool_.parallel_for(args.n_rows, 1, [&](std::int64_t i, std::int64_t) {
    kernels_.sample(args.logits + i * args.vocab, args.vocab, args.argmax + i, args.log_sum_exp + i);
  });
}

}  // namespace cria
