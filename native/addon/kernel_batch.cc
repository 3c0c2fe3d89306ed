#include "addon/kernel_batch.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "core/rope_frequencies.h"
#include "sampler/sampler.h"

namespace cria {

RopeTable::RopeTable(KernelCall& call, const std::vector<std::int32_t>& positions, std::int32_t head_dim)
    : n_tokens_(static_cast<std::int64_t>(positions.size())) {
  const std::vector<float> frequencies = call.floats("frequencies");
  rope_dim_ = static_cast<std::int32_t>(2 * frequencies.size());
  if (rope_dim_ < 2 || rope_dim_ > head_dim)
    throw_argument("frequencies", "1 to headDim / 2 of them, one for each rotated pair");
  const std::size_t bytes = positions.size() * frequencies.size() * sizeof(float);
  cos_ = allocate_host(bytes);
  sin_ = allocate_host(bytes);
  rope_angles(positions, frequencies, call.number("magnitude"), reinterpret_cast<float*>(cos_.data),
              reinterpret_cast<float*>(sin_.data));
}

void RopeTable::to_device(ElementaryOps& ops) {
  cos_ = ops.to_device(std::move(cos_));
  sin_ = ops.to_device(std::move(sin_));
}

KernelBatch::KernelBatch(KernelCall& call, const std::vector<std::int64_t>& kv_shape) {
  const std::vector<std::int32_t> first = call.integers("first"), count = call.integers("count"),
                                  pages = call.integers("pages");
  const std::size_t n = first.size();
  if (count.size() != n || (n == 0 ? !pages.empty() : pages.size() % n != 0))
    throw_argument("pages", "one row per sequence");
  const std::size_t stride = n == 0 ? 0 : pages.size() / n;
  stride_ = static_cast<std::int32_t>(stride);
  for (const std::int32_t page : pages)
    if (page < 0 || page >= kv_shape[1])
      throw_argument("pages", "page numbers from 0 to " + std::to_string(kv_shape[1] - 1));
  for (std::size_t s = 0; s < n; s++) {
    if (first[s] < 0 || count[s] < 0 ||
        static_cast<std::int64_t>(first[s]) + count[s] > stride_ * kv_shape[3])
      throw_argument("count", "no more tokens than the sequence's pages hold");
    if (count[s] == 0) continue;
    for (std::int32_t i = 0; i < count[s]; i++) {
      positions_.push_back(first[s] + i);
      sequence_of_.push_back(n_sequences_);
    }
    const auto row = pages.begin() + static_cast<std::ptrdiff_t>(s * stride);
    pages_.insert(pages_.end(), row, row + stride_);
    n_sequences_++;
  }
}

BatchPart KernelBatch::part(std::int64_t first, std::int32_t n, const RopeTable* table) const {
  const std::int32_t* const sequences = sequence_of_.data() + first;
  BatchPart part{.first = first, .batch = {}, .sequence_of = {sequences, sequences + n}};
  for (std::int32_t& s : part.sequence_of) s -= sequences[0];
  Batch& batch = part.batch;
  batch.n_tokens = n;
  batch.n_sequences = part.sequence_of.back() + 1;
  batch.positions = positions_.data() + first;
  batch.sequence_of = part.sequence_of.data();
  batch.block_table = pages_.data() + static_cast<std::ptrdiff_t>(sequences[0]) * stride_;
  batch.block_table_stride = stride_;
  if (table) {
    batch.rope_cos = table->cos() + first * (table->rope_dim() / 2);
    batch.rope_sin = table->sin() + first * (table->rope_dim() / 2);
  }
  return part;
}

PassLimits plain_limits(std::int64_t matrix_cols) {
  PassLimits limits;
  limits.shape.n_heads = limits.shape.n_kv_heads = 1;
  limits.shape.head_dim = limits.shape.rope_dim = 2;
  limits.kv_dtype = DType::f32;
  limits.max_tokens = limits.max_sequences = limits.max_pages = 1;
  limits.vocab = 1;
  limits.matrix_cols = matrix_cols;
  return limits;
}

void run_in_passes(Backend& backend, const Timed& timed, PassLimits limits, std::int64_t n_tokens,
                   const std::function<BatchPart(std::int64_t first, std::int32_t n)>& part,
                   const std::function<void(const BatchPart&)>& op) {
  const std::int64_t max_tokens = backend.info().max_batch_tokens;
  limits.max_tokens = static_cast<std::int32_t>(std::min(max_tokens, n_tokens));
  Passes& passes = backend.passes();
  passes.prepare(limits);
  for (std::int64_t first = 0; first < n_tokens; first += max_tokens) {
    const BatchPart tokens = part(first, static_cast<std::int32_t>(std::min(max_tokens, n_tokens - first)));
    try {
      if (passes.begin({.batch = &tokens.batch, .logit_rows = nullptr, .n_logit_rows = 0}))
        timed([&] { op(tokens); });
      passes.end();
    } catch (...) {
      passes.cancel();
      throw;
    }
  }
}

void sample_kernel(KernelCall& c) {
  const std::int64_t rows = c.integer("rows", 0, INT32_MAX);
  const std::int64_t vocab = c.integer("cols", 1, INT32_MAX);
  Operand& logits = c.input("logits", rows * vocab);
  SamplingParams params;
  params.temperature = c.number("temperature");
  c.found_ids.resize(static_cast<std::size_t>(rows));
  c.found_floats.resize(static_cast<std::size_t>(rows));
  const auto greedy = [&c, &logits, rows, vocab](Backend& b) {
    b.elementary().argmax({.n_rows = rows,
                           .cols = vocab,
                           .x = logits.f32(),
                           .argmax = c.found_ids.data(),
                           .log_sum_exp = c.found_floats.data()});
  };
  if (params.temperature == 0) {
    c.run = greedy;
    return;
  }
  params.top_k = static_cast<std::int32_t>(c.integer("topK", 0, INT32_MAX));
  params.top_p = c.number("topP");
  params.min_p = c.number("minP");
  params.typical_p = c.number("typicalP");
  params.seed = as_uint64(c.args().Get("seed"), "seed");
  std::vector<std::int32_t>& positions = *c.keep<std::vector<std::int32_t>>(c.integers("positions"));
  if (static_cast<std::int64_t>(positions.size()) != rows) throw_argument("positions", "one per row");
  Sampler& sampler = *c.keep<Sampler>(params, static_cast<std::uint32_t>(vocab));
  c.run = [&c, &logits, &positions, &sampler, greedy, vocab](Backend& b) {
    greedy(b);
    const TensorMemory host = b.elementary().to_host(logits.tensor->memory);
    const auto* values = reinterpret_cast<const float*>(host.data);
    for (std::size_t r = 0; r < positions.size(); r++) {
      const std::span<const float> row(values + static_cast<std::int64_t>(r) * vocab,
                                       static_cast<std::size_t>(vocab));
      c.found_ids[r] = sampler.sample(row, {}, static_cast<std::uint64_t>(positions[r])).id;
    }
  };
}

}  // namespace cria
