#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_weights.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/repack.h"
#include "kernels/cpu/scratch.h"

namespace cria {
namespace {

// What one thread takes of a product at a time: rows, from kManyTokens tokens on; below, bytes of weights.
constexpr std::int64_t kManyTokens = 4;
constexpr std::int64_t kRowChunk = kPanelRows;
constexpr std::size_t kStreamChunk = std::size_t{256} << 10;

}  // namespace

MatmulRows CpuOps::matmul_rows(const Product& product, const ActivationRows& x, std::int64_t n_tokens) {
  const Weight& w = product.weight;
  return {.weights = static_cast<const std::uint8_t*>(w.data),
          .dtype = w.dtype,
          .repacked = w.layout == kPanels,
          .rows = w.rows,
          .cols = w.cols,
          .x = x,
          .n_tokens = n_tokens,
          .y = product.y,
          .y_stride = product.y_stride,
          .accumulate = product.accumulate,
          .scale = w.scale,
          .bias = w.bias};
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
  float* out = ensure_size(normalized_, n_tokens * hidden);
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
  // The pool counts chunks and orders memory; the shares decide which chunk a call takes.
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
    rows[i] = matmul_rows(products[i], acts[p], n_tokens);
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

void CpuOps::add_low_rank(const AdapterRuns& adapters, std::int32_t layer, Projection projection,
                          const float* x, std::int64_t cols, float* y, std::int64_t rows) {
  for (std::int32_t i = 0; i < adapters.n; i++) {
    const AdapterRun& run = adapters.runs[i];
    const LowRank& low_rank = run.layers[layer].of(projection);
    const std::int64_t rank = low_rank.a.rows;
    if (rank == 0) continue;
    float* const u = ensure_size(low_rank_, run.n_rows * rank);
    const Product into_rank{.weight = low_rank.a, .y = u, .y_stride = rank};
    multiply(&into_rank, 1, x + run.first_row * cols, run.n_rows);
    Product out_of_rank{
        .weight = low_rank.b, .y = y + run.first_row * rows, .y_stride = rows, .accumulate = true};
    out_of_rank.weight.scale = low_rank.scale * run.scale;
    multiply(&out_of_rank, 1, u, run.n_rows);
  }
}

void CpuOps::embed(const EmbedArgs& args) {
  const Weight& table = args.embedding;
  const std::size_t bytes = row_bytes(table.dtype, static_cast<std::size_t>(table.cols));
  pool_.parallel_for(args.batch->n_tokens, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      const std::uint32_t token = args.batch->tokens[t];
      float* x = args.x + t * table.cols;
      if (table.layout == kPanels)
        dequantize_panel_row(table.dtype, table.cols, token, table.data, x);
      else
        dequantize_row(table.dtype, static_cast<const std::byte*>(table.data) + token * bytes, x, table.cols);
    }
  });
}

void CpuOps::attention_input(const AttentionInputArgs& args) {
  const AttentionShape& s = args.shape;
  const LayerWeights& w = *args.weights;
  const std::int64_t n = args.batch->n_tokens;
  const std::int64_t q_dim = static_cast<std::int64_t>(s.n_heads) * s.head_dim;
  const std::int64_t kv_dim = static_cast<std::int64_t>(s.n_kv_heads) * s.head_dim;
  const float* x = normalize(args.x, w.attention_norm, args.rms_norm_eps, n);
  float* k = ensure_size(k_, n * kv_dim);
  float* v = ensure_size(v_, n * kv_dim);
  const Product products[3] = {{.weight = w.query, .y = args.q, .y_stride = q_dim},
                               {.weight = w.key, .y = k, .y_stride = kv_dim},
                               {.weight = w.value, .y = v, .y_stride = kv_dim}};
  multiply(products, 3, x, n);
  add_low_rank(args.adapters, args.layer, Projection::query, x, w.query.cols, args.q, q_dim);
  add_low_rank(args.adapters, args.layer, Projection::key, x, w.key.cols, k, kv_dim);
  add_low_rank(args.adapters, args.layer, Projection::value, x, w.value.cols, v, kv_dim);
  pool_.parallel_for(n, pool_.grain_for(n, 4),
                     [&](std::int64_t begin, std::int64_t end) { rope_and_append(args, k, v, begin, end); });
}

void CpuOps::rope_and_append(const AttentionInputArgs& args, float* k, const float* v, std::int64_t begin,
                             std::int64_t end) const {
  const AttentionShape& s = args.shape;
  const Batch& batch = *args.batch;
  const std::int64_t q_dim = static_cast<std::int64_t>(s.n_heads) * s.head_dim;
  const std::int64_t kv_dim = static_cast<std::int64_t>(s.n_kv_heads) * s.head_dim;
  const bool f32 = args.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(s.head_dim) * (f32 ? 4 : 2);
  for (std::int64_t t = begin; t < end; t++) {
    RopeRow rope{.cos = batch.rope_cos + t * (s.rope_dim / 2),
                 .sin = batch.rope_sin + t * (s.rope_dim / 2),
                 .rope_dim = s.rope_dim,
                 .head_dim = s.head_dim,
                 .n_heads = s.n_heads,
                 .half_layout = s.rope_half_layout};
    kernels_.rope(args.q + t * q_dim, &rope);
    rope.n_heads = s.n_kv_heads;
    kernels_.rope(k + t * kv_dim, &rope);

    const std::int32_t position = batch.positions[t];
    const std::int64_t table_row = static_cast<std::int64_t>(batch.sequence_of[t]) * batch.block_table_stride;
    const std::int32_t page = batch.block_table[table_row + position / kCpuPageTokens];
    auto* block =
        reinterpret_cast<std::uint8_t*>(args.kv.pages + static_cast<std::size_t>(page) * args.kv.page_stride);
    for (std::int32_t h = 0; h < s.n_kv_heads; h++) {
      const std::int64_t at = t * kv_dim + h * s.head_dim;
      kernels_.append_kv(k + at, v + at, s.head_dim, block + static_cast<std::size_t>(h) * block_bytes,
                         position % kCpuPageTokens, f32);
    }
  }
}

void CpuOps::paged_attention(const PagedAttentionArgs& args) { attention_.run(kernels_, pool_, args); }

void CpuOps::matmul(const Weight& weight, const float* x, std::int64_t n_tokens, float* y, bool accumulate) {
  const Product product{.weight = weight, .y = y, .y_stride = weight.rows, .accumulate = accumulate};
  multiply(&product, 1, x, n_tokens);
}

void CpuOps::project_residual(const ProjectResidualArgs& args) {
  matmul(args.weight, args.h, args.n_tokens, args.x, true);
  add_low_rank(args.adapters, args.layer, args.projection, args.h, args.weight.cols, args.x,
               args.weight.rows);
}

void CpuOps::adapted_swiglu(const SwigluArgs& args, const float* x) {
  const Weight &gate = args.weights->gate, &up = args.weights->up;
  float* const ups = ensure_size(up_, args.n_tokens * up.rows);
  const Product products[2] = {{.weight = gate, .y = args.h, .y_stride = gate.rows},
                               {.weight = up, .y = ups, .y_stride = up.rows}};
  multiply(products, 2, x, args.n_tokens);
  add_low_rank(args.adapters, args.layer, Projection::gate, x, gate.cols, args.h, gate.rows);
  add_low_rank(args.adapters, args.layer, Projection::up, x, up.cols, ups, up.rows);
  pool_.parallel_for(args.n_tokens, pool_.grain_for(args.n_tokens, 1),
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t t = begin; t < end; t++) {
                         float* const h = args.h + t * gate.rows;
                         kernels_.silu_mul(h, ups + t * up.rows, h, gate.rows);
                       }
                     });
}

void CpuOps::swiglu(const SwigluArgs& args) {
  const Weight &gate = args.weights->gate, &up = args.weights->up;
  const float* x = normalize(args.x, args.weights->ffn_norm, args.rms_norm_eps, args.n_tokens);
  if (args.adapters.change(args.layer, Projection::gate) || args.adapters.change(args.layer, Projection::up))
    return adapted_swiglu(args, x);
  const ActivationRows gate_x =
      activations_[0].prepare(kernels_, pool_, gate.dtype, x, args.n_tokens, gate.cols);
  const ActivationRows up_x =
      activation_dtype(up.dtype) == gate_x.dtype
          ? gate_x
          : activations_[1].prepare(kernels_, pool_, up.dtype, x, args.n_tokens, up.cols);
  const MatmulRows gate_rows =
      matmul_rows({.weight = gate, .y = args.h, .y_stride = gate.rows}, gate_x, args.n_tokens);
  const MatmulRows up_rows =
      matmul_rows({.weight = up, .y = nullptr, .y_stride = up.rows}, up_x, args.n_tokens);
  reserve_scratch(kernels_.matmul_scratch_bytes(gate.dtype, args.n_tokens) +
                  kernels_.matmul_scratch_bytes(up.dtype, args.n_tokens));
  const std::int64_t chunk = chunk_rows(gate, args.n_tokens);
  for_chunks((gate.rows + chunk - 1) / chunk, [&](std::int64_t at, int thread) {
    const std::int64_t row = at * chunk;
    kernels_.gate_up(&gate_rows, &up_rows, row, std::min(row + chunk, gate.rows), scratch(thread));
  });
}

void CpuOps::experts(const ExpertsArgs& args) {
  const LayerWeights& w = *args.weights;
  const float* x = normalize(args.x, w.ffn_norm, args.rms_norm_eps, args.n_tokens);
  float* const logits = ensure_size(router_logits_, args.n_tokens * args.shape.n_experts);
  const Product router{.weight = w.router, .y = logits, .y_stride = w.router.rows};
  multiply(&router, 1, x, args.n_tokens);
  routing_.route(kernels_, pool_, logits, args.n_tokens, args.shape);
  float* const h = ensure_size(expert_h_, routing_.rows() * args.shape.ffn_hidden);
  float* const outputs = ensure_size(expert_outputs_, routing_.rows() * args.shape.hidden);
  expert_gate_up(w, x, h);
  expert_down(w, h, outputs);
  routing_.add_outputs(pool_, outputs, args.shape.hidden, args.x);
}

template <class Body>
void CpuOps::for_expert_chunks(const LayerWeights& weights, Weight ExpertWeights::* matrix, Body&& body) {
  const auto chunk_of = [&](std::size_t i) {
    const auto expert = static_cast<std::size_t>(routing_.active()[i]);
    return chunk_rows(weights.experts[expert].*matrix, expert_rows_[i].n_tokens);
  };
  expert_chunks_.assign(1, 0);
  for (std::size_t i = 0; i < routing_.active().size(); i++) {
    const std::int64_t chunk = chunk_of(i);
    expert_chunks_.push_back(expert_chunks_.back() + (expert_rows_[i].rows + chunk - 1) / chunk);
  }
  for_chunks(expert_chunks_.back(), [&](std::int64_t at, int thread) {
    const auto next = std::ranges::upper_bound(expert_chunks_, at);
    const auto i = static_cast<std::size_t>(next - expert_chunks_.begin()) - 1;
    const std::int64_t chunk = chunk_of(i), row = (at - expert_chunks_[i]) * chunk;
    body(i, row, std::min(row + chunk, expert_rows_[i].rows), thread);
  });
}

void CpuOps::expert_gate_up(const LayerWeights& weights, const float* x, float* h) {
  const Weight &gate = weights.experts[0].gate, &up = weights.experts[0].up;
  const RowGroups groups = routing_.groups();
  const ActivationRows gate_x =
      activations_[0].prepare_groups(kernels_, pool_, gate.dtype, x, groups, gate.cols);
  const ActivationRows up_x =
      activation_dtype(up.dtype) == gate_x.dtype
          ? gate_x
          : activations_[1].prepare_groups(kernels_, pool_, up.dtype, x, groups, up.cols);
  expert_rows_.clear();
  expert_up_rows_.clear();
  std::size_t scratch_bytes = 0;
  for (const std::int32_t e : routing_.active()) {
    const auto expert = static_cast<std::size_t>(e);
    const std::int64_t first = groups.begin[expert], n = groups.begin[expert + 1] - first;
    const ExpertWeights& own = weights.experts[expert];
    expert_rows_.push_back(
        matmul_rows({.weight = own.gate, .y = h + first * gate.rows, .y_stride = gate.rows},
                    ActivationBuffer::group(gate_x, first), n));
    expert_up_rows_.push_back(matmul_rows({.weight = own.up, .y = nullptr, .y_stride = up.rows},
                                          ActivationBuffer::group(up_x, first), n));
    scratch_bytes = std::max(scratch_bytes, kernels_.matmul_scratch_bytes(gate.dtype, n) +
                                                kernels_.matmul_scratch_bytes(up.dtype, n));
  }
  reserve_scratch(scratch_bytes);
  for_expert_chunks(weights, &ExpertWeights::gate,
                    [&](std::size_t i, std::int64_t row, std::int64_t end, int thread) {
                      kernels_.gate_up(&expert_rows_[i], &expert_up_rows_[i], row, end, scratch(thread));
                    });
}

void CpuOps::expert_down(const LayerWeights& weights, const float* h, float* y) {
  const Weight& down = weights.experts[0].down;
  const RowGroups groups{.begin = routing_.groups().begin};
  const ActivationRows x = activations_[0].prepare_groups(kernels_, pool_, down.dtype, h, groups, down.cols);
  expert_rows_.clear();
  std::size_t scratch_bytes = 0;
  for (const std::int32_t e : routing_.active()) {
    const auto expert = static_cast<std::size_t>(e);
    const std::int64_t first = groups.begin[expert], n = groups.begin[expert + 1] - first;
    expert_rows_.push_back(matmul_rows(
        {.weight = weights.experts[expert].down, .y = y + first * down.rows, .y_stride = down.rows},
        ActivationBuffer::group(x, first), n));
    scratch_bytes = std::max(scratch_bytes, kernels_.matmul_scratch_bytes(down.dtype, n));
  }
  reserve_scratch(scratch_bytes);
  for_expert_chunks(weights, &ExpertWeights::down,
                    [&](std::size_t i, std::int64_t row, std::int64_t end, int thread) {
                      kernels_.matmul(&expert_rows_[i], row, end, scratch(thread));
                    });
}

void CpuOps::gather_rows(const GatherRowsArgs& args) {
  for (std::int32_t i = 0; i < args.n_rows; i++)
    std::memcpy(args.to + i * args.cols, args.from + args.rows[i] * args.cols,
                static_cast<std::size_t>(args.cols) * sizeof(float));
}

void CpuOps::logits(const LogitsArgs& args) {
  const float* x = normalize(args.x, args.norm, args.rms_norm_eps, args.n_rows);
  const Product product{.weight = args.output, .y = args.logits, .y_stride = args.output.rows};
  multiply(&product, 1, x, args.n_rows);
}

void CpuOps::sample(const SampleArgs& args) {
  std::fill_n(args.tokens, args.n_rows, kSampleOnHost);
  const auto is_greedy = [](const SampleRow& row) { return !row.on_host && row.temperature == 0; };
  if (std::none_of(args.rows, args.rows + args.n_rows, is_greedy)) return;
  pool_.parallel_for(args.n_rows, 1, [&](std::int64_t i, std::int64_t) {
    if (!is_greedy(args.rows[i])) return;
    std::uint32_t id;
    float log_sum_exp;
    kernels_.argmax(args.logits + i * args.vocab, args.vocab, &id, &log_sum_exp);
    if (std::isfinite(log_sum_exp)) args.tokens[i] = id;
  });
}

}  // namespace cria
