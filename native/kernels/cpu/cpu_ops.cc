#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/interleave.h"
#include "kernels/cpu/quantize.h"

namespace cria {
namespace {

constexpr std::int64_t kRowChunk = 32;  // rows of a product that one thread takes at a time, for many tokens
constexpr std::size_t kStreamChunk = std::size_t{256} << 10;  // bytes of weights that it takes for a few
constexpr std::int64_t kManyTokens = 4;
constexpr std::int32_t kQueryRows = 4;     // rows of a query tile that share a read of K and V
constexpr std::int32_t kSpanTokens = 512;  // attention's partial results: part of the order of summation

float* at_least(std::vector<float>& v, std::int64_t n) {
  if (v.size() < static_cast<std::size_t>(n)) v.resize(static_cast<std::size_t>(n));
  return v.data();
}

}  // namespace

MatmulRows CpuOps::matmul_rows(const Weight& weight, const ActivationRows& x, std::int64_t n_tokens, float* y,
                               std::int64_t y_stride, bool accumulate) const {
  return {static_cast<const std::uint8_t*>(weight.data),
          weight.dtype,
          weight.interleaved,
          weight.rows,
          weight.cols,
          x,
          n_tokens,
          y,
          y_stride,
          accumulate};
}

void CpuOps::reserve_scratch(std::size_t bytes) {
  constexpr std::size_t kAlignment = 4096;
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (bytes <= scratch_stride_) return;
  scratch_stride_ = bytes;
  const std::size_t total = bytes * static_cast<std::size_t>(pool_.size());
  scratch_memory_.resize(total + kAlignment);
  const auto address = reinterpret_cast<std::uintptr_t>(scratch_memory_.data());
  scratch_ = std::span(scratch_memory_).subspan((kAlignment - address % kAlignment) % kAlignment, total);
}

const float* CpuOps::normalize(const float* x, const Weight& norm, float eps, std::int64_t n_tokens) {
  const std::int64_t hidden = norm.cols;
  float* out = at_least(normalized_, n_tokens * hidden);
  pool_.parallel_for(n_tokens, pool_.grain_for(n_tokens, 4), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++)
      kernels_.rms_norm(x + t * hidden, static_cast<const float*>(norm.data), eps, out + t * hidden, hidden);
  });
  return out;
}

template <class Body>
void CpuOps::for_chunks(std::int64_t chunks, Body&& body) {
  const std::int64_t threads = pool_.size();
  for (std::int64_t t = 0; t < threads; t++) {
    Share& share = shares_[static_cast<std::size_t>(t)];
    share.next.store(chunks * t / threads, std::memory_order_relaxed);
    share.end = chunks * (t + 1) / threads;
  }
  // The pool counts chunks and orders memory; which chunk a call is for, the shares say.
  pool_.parallel_for(chunks, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    auto from = static_cast<std::size_t>(thread);
    for (; begin < end; begin++) {
      std::int64_t chunk;
      while ((chunk = shares_[from].next.fetch_add(1, std::memory_order_relaxed)) >= shares_[from].end)
        from = (from + 1) % shares_.size();
      body(chunk, thread);
    }
  });
}

std::int64_t CpuOps::chunk_rows(const Weight& weight, std::int64_t n_tokens) {
  if (n_tokens >= kManyTokens) return kRowChunk;
  const std::size_t row = row_bytes(weight.dtype, static_cast<std::size_t>(weight.cols));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(kStreamChunk / row) / kRowChunk) * kRowChunk;
}

void CpuOps::multiply(const Product* products, int n, const float* x, std::int64_t n_tokens) {
  MatmulRows rows[kMaxProducts];
  std::int64_t chunk[kMaxProducts], first_chunk[kMaxProducts + 1] = {0};
  ActivationRows acts[kMaxProducts];
  std::size_t scratch_bytes = 0;
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
    chunk[i] = chunk_rows(w, n_tokens);
    first_chunk[i + 1] = first_chunk[i] + (w.rows + chunk[i] - 1) / chunk[i];
    scratch_bytes = std::max(scratch_bytes, kernels_.matmul_scratch_bytes(w.dtype, n_tokens));
  }
  reserve_scratch(scratch_bytes);
  for_chunks(first_chunk[n], [&](std::int64_t at, int thread) {
    int i = 0;
    while (at >= first_chunk[i + 1]) i++;
    const std::int64_t row = (at - first_chunk[i]) * chunk[i];
    kernels_.matmul(&rows[i], row, std::min(row + chunk[i], rows[i].rows), scratch(thread));
  });
}

void CpuOps::embed(const EmbedArgs& args) {
  const Weight& table = args.embedding;
  const std::size_t bytes = row_bytes(table.dtype, static_cast<std::size_t>(table.cols));
  pool_.parallel_for(args.batch->n_tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::byte> gathered(table.interleaved ? bytes : 0);
    for (std::int64_t t = begin; t < end; t++) {
      const std::uint32_t token = args.batch->tokens[t];
      const std::byte* row = static_cast<const std::byte*>(table.data) + token * bytes;
      if (table.interleaved) {
        gather_row(table.dtype, table.cols, token, table.data, gathered.data());
        row = gathered.data();
      }
      dequantize_row(table.dtype, row, args.x + t * table.cols, table.cols);
    }
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
  pool_.parallel_for(n, pool_.grain_for(n, 4), [&](std::int64_t begin, std::int64_t end) {
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

void CpuOps::find_query_tiles(const Batch& batch, std::int32_t group) {
  // Few heads to a KV head: consecutive tokens of a sequence share a read of K and V instead.
  const std::int32_t most = std::max(1, kQueryRows / group);
  query_tiles_.clear();
  for (std::int32_t t = 0; t < batch.n_tokens; t++) {
    if (!query_tiles_.empty()) {
      QueryTile& last = query_tiles_.back();
      if (last.count < most && batch.sequence_of[t] == batch.sequence_of[t - 1] &&
          batch.positions[t] == batch.positions[t - 1] + 1) {
        last.count++;
        continue;
      }
    }
    query_tiles_.push_back({t, 1});
  }
}

void CpuOps::paged_attention(const PagedAttentionArgs& args) {
  const AttentionShape& s = args.shape;
  const Batch& batch = *args.batch;
  const std::int32_t group = s.n_heads / s.n_kv_heads, padded = padded_head_dim(s.head_dim);
  const bool f32 = args.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(s.head_dim) * (f32 ? 4 : 2);
  find_query_tiles(batch, group);

  // An item is one KV head of one tile of tokens. Spans are cut at fixed positions and merged in order, so
  // who computes them, with which other tokens, and in how many pieces, changes nothing.
  std::int32_t max_spans = 1, max_queries = 1;
  for (const QueryTile& tile : query_tiles_) {
    max_spans = std::max(max_spans, batch.positions[tile.first + tile.count - 1] / kSpanTokens + 1);
    max_queries = std::max(max_queries, tile.count);
  }
  const std::int64_t items = static_cast<std::int64_t>(query_tiles_.size()) * s.n_kv_heads;
  // A few items with long contexts: their spans are shared out among the threads, each with a slot of its
  // own. Else a thread takes whole items and needs two slots.
  const bool split = max_spans > 1 && items < 8 * pool_.size();
  const std::int64_t slots = split ? items * max_spans : 2 * pool_.size();
  const std::int32_t rows = max_queries * group;
  float* partial = at_least(partial_, slots * rows * padded);
  float* max_sum = at_least(partial_max_sum_, slots * rows * 2);

  const auto tile_of = [&](std::int64_t item) {
    return query_tiles_[static_cast<std::size_t>(item / s.n_kv_heads)];
  };
  const auto spans_of = [&](std::int64_t item) {
    const QueryTile tile = tile_of(item);
    return batch.positions[tile.first + tile.count - 1] / kSpanTokens + 1;
  };
  const auto attend = [&](std::int64_t item, std::int32_t span, std::int64_t slot) {
    const QueryTile tile = tile_of(item);
    const std::int64_t kv_head = item % s.n_kv_heads,
                       q_dim = static_cast<std::int64_t>(s.n_heads) * s.head_dim;
    AttendSpan a;
    a.q = args.q + tile.first * q_dim + kv_head * group * s.head_dim;
    a.q_token_stride = q_dim;
    a.n_queries = tile.count;
    a.group = group;
    a.head_dim = s.head_dim;
    a.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    a.pages = reinterpret_cast<const std::uint8_t*>(args.kv.pages) +
              static_cast<std::size_t>(kv_head) * block_bytes;
    a.page_stride = args.kv.page_stride;
    a.block_table = batch.block_table +
                    static_cast<std::int64_t>(batch.sequence_of[tile.first]) * batch.block_table_stride +
                    span * (kSpanTokens / kCpuPageTokens);
    a.n_tokens = batch.positions[tile.first] + 1 - span * kSpanTokens;
    a.max_tokens = kSpanTokens;
    a.kv_f32 = f32;
    a.max = max_sum + slot * rows * 2;
    a.sum = a.max + rows;
    a.out = partial + slot * rows * padded;
    a.out_stride = padded;
    kernels_.attend(&a);
  };
  // Rows of the item that see something of the span: the tile's last tokens.
  const auto merge = [&](std::int64_t item, std::int32_t span, std::int64_t into, std::int64_t from) {
    const QueryTile tile = tile_of(item);
    std::int32_t skipped = 0;
    while (batch.positions[tile.first + skipped] < span * kSpanTokens) skipped++;
    const std::int64_t at = static_cast<std::int64_t>(skipped) * group;
    float* a = max_sum + into * rows * 2 + at;
    const float* b = max_sum + from * rows * 2 + at;
    kernels_.merge_spans(a, a + rows, partial + (into * rows + at) * padded, b, b + rows,
                         partial + (from * rows + at) * padded, (tile.count - skipped) * group, s.head_dim,
                         padded);
  };
  const auto finish = [&](std::int64_t item, std::int64_t slot) {
    const QueryTile tile = tile_of(item);
    for (std::int32_t r = 0; r < tile.count * group; r++) {
      float* out = args.out + (static_cast<std::int64_t>(tile.first + r / group) * s.n_heads +
                               item % s.n_kv_heads * group + r % group) *
                                  s.head_dim;
      const float inverse = 1.0f / max_sum[slot * rows * 2 + rows + r];
      const float* from = partial + (slot * rows + r) * padded;
      for (std::int32_t d = 0; d < s.head_dim; d++) out[d] = from[d] * inverse;
    }
  };

  if (split) {
    pool_.parallel_for(items * max_spans, 1, [&](std::int64_t i, std::int64_t) {
      const auto span = static_cast<std::int32_t>(i % max_spans);
      if (span < spans_of(i / max_spans)) attend(i / max_spans, span, i);
    });
    pool_.parallel_for(items, 1, [&](std::int64_t item, std::int64_t) {
      const std::int64_t slot = item * max_spans;
      for (std::int32_t span = 1; span < spans_of(item); span++) merge(item, span, slot, slot + span);
      finish(item, slot);
    });
  } else {
    pool_.parallel_for(items, 1, [&](std::int64_t item, std::int64_t, int thread) {
      const std::int64_t slot = 2 * thread;
      attend(item, 0, slot);
      for (std::int32_t span = 1; span < spans_of(item); span++) {
        attend(item, span, slot + 1);
        merge(item, span, slot, slot + 1);
      }
      finish(item, slot);
    });
  }
}

void CpuOps::matmul(const Weight& weight, const float* x, std::int64_t n_tokens, float* y, bool accumulate) {
  const Product product{weight, y, weight.rows, accumulate};
  multiply(&product, 1, x, n_tokens);
}

void CpuOps::project_residual(const ProjectResidualArgs& args) {
  matmul(args.weight, args.h, args.n_tokens, args.x, true);
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
  reserve_scratch(kernels_.matmul_scratch_bytes(gate.dtype, args.n_tokens) +
                  kernels_.matmul_scratch_bytes(up.dtype, args.n_tokens));
  const std::int64_t chunk = chunk_rows(gate, args.n_tokens);
  for_chunks((gate.rows + chunk - 1) / chunk, [&](std::int64_t at, int thread) {
    const std::int64_t row = at * chunk;
    kernels_.gate_up(&gate_rows, &up_rows, row, std::min(row + chunk, gate.rows), scratch(thread));
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
