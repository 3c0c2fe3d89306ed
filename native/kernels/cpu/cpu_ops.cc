#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/repack.h"

namespace cria {
namespace {

constexpr std::int64_t kRowChunk = 32;  // rows of a product that one thread takes at a time, for many tokens
constexpr std::size_t kStreamChunk = std::size_t{256} << 10;  // bytes of weights that it takes for a few
constexpr std::int64_t kManyTokens = 4;                       // no longer a few

float* at_least(std::vector<float>& v, std::int64_t n) {
  if (v.size() < static_cast<std::size_t>(n)) v.resize(static_cast<std::size_t>(n));
  return v.data();
}

}  // namespace

MatmulRows CpuOps::matmul_rows(const Weight& weight, const ActivationRows& x, std::int64_t n_tokens, float* y,
                               std::int64_t y_stride, bool accumulate) const {
  return {static_cast<const std::uint8_t*>(weight.data),
          weight.dtype,
          weight.repacked,
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
    std::vector<std::byte> gathered(table.repacked ? bytes : 0);
    for (std::int64_t t = begin; t < end; t++) {
      const std::uint32_t token = args.batch->tokens[t];
      const std::byte* row = static_cast<const std::byte*>(table.data) + token * bytes;
      if (table.repacked) {
        unpack_row(table.dtype, table.cols, token, table.data, gathered.data());
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

void CpuOps::paged_attention(const PagedAttentionArgs& args) { attention_.run(kernels_, pool_, args); }

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

void CpuOps::gather_rows(const GatherRowsArgs& args) {
  for (std::int32_t i = 0; i < args.n_rows; i++)
    std::memcpy(args.to + i * args.cols, args.from + args.rows[i] * args.cols,
                static_cast<std::size_t>(args.cols) * sizeof(float));
}

void CpuOps::logits(const LogitsArgs& args) {
  const float* x = normalize(args.x, args.norm, args.rms_norm_eps, args.n_rows);
  const Product product{args.output, args.logits, args.output.rows, false};
  multiply(&product, 1, x, args.n_rows);
}

void CpuOps::sample(const SampleArgs& args) {
  pool_.parallel_for(args.n_rows, 1, [&](std::int64_t i, std::int64_t) {
    kernels_.sample(args.logits + i * args.vocab, args.vocab, args.argmax + i, args.log_sum_exp + i);
  });
}

}  // namespace cria
