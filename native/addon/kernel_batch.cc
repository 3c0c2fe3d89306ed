#include "addon/kernel_batch.h"

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
    throw_argument("frequencies", "one for each pair of a head's dimensions");
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
  const std::vector<std::int32_t> first = call.integers("first"), count = call.integers("count");
  pages_ = call.integers("pages");
  n_sequences_ = static_cast<std::int32_t>(first.size());
  if (count.size() != first.size() ||
      (n_sequences_ == 0 ? !pages_.empty() : pages_.size() % first.size() != 0))
    throw_argument("pages", "a row for each sequence");
  stride_ = n_sequences_ == 0 ? 0 : static_cast<std::int32_t>(pages_.size() / first.size());
  for (const std::int32_t page : pages_)
    if (page < 0 || page >= kv_shape[1]) throw_argument("pages", "pages of the cache");
  for (std::int32_t s = 0; s < n_sequences_; s++) {
    const auto at = static_cast<std::size_t>(s);
    if (first[at] < 0 || count[at] < 0 ||
        static_cast<std::int64_t>(first[at]) + count[at] > stride_ * kv_shape[3])
      throw_argument("count", "tokens that fit the sequence's pages");
    for (std::int32_t i = 0; i < count[at]; i++) {
      positions_.push_back(first[at] + i);
      sequence_of_.push_back(s);
    }
  }
}

Batch KernelBatch::view(const RopeTable* table) const {
  Batch batch;
  batch.n_tokens = static_cast<std::int32_t>(positions_.size());
  batch.n_sequences = n_sequences_;
  batch.positions = positions_.data();
  batch.sequence_of = sequence_of_.data();
  batch.block_table = pages_.data();
  batch.block_table_stride = stride_;
  batch.rope_cos = table ? table->cos() : nullptr;
  batch.rope_sin = table ? table->sin() : nullptr;
  return batch;
}

void sample_kernel(KernelCall& c) {
  const auto rows = static_cast<std::int32_t>(c.integer("rows", 0, INT32_MAX));
  const std::int64_t vocab = c.integer("cols", 1, INT32_MAX);
  Operand& logits = c.input("logits", rows * vocab);
  SamplingParams params;
  params.temperature = c.number("temperature");
  c.found_ids.resize(static_cast<std::size_t>(rows));
  c.found_floats.resize(static_cast<std::size_t>(rows));
  const auto greedy = [&c, &logits, rows, vocab](Backend& b) {
    b.sample({rows, vocab, logits.f32(), c.found_ids.data(), c.found_floats.data()});
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
  if (static_cast<std::int32_t>(positions.size()) != rows) throw_argument("positions", "one for each row");
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
