#include "kernels/cuda/pass_batch.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"

namespace cria::cuda {
namespace {

// Pages per sequence of a padded pass, at least.
constexpr std::int32_t kMinStride = 16;

std::int32_t power_of_two(std::int32_t n) {
  return static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(n)));
}

}  // namespace

PassBatch::PassBatch(const PassLimits& limits, const DeviceProperties& device)
    : limits_(limits), multiprocessors_(device.multiprocessors) {
  const PassShape largest{.n_tokens = limits.max_tokens,
                          .n_sequences = limits.max_sequences,
                          .n_logit_rows = limits.max_sequences,
                          .table_stride = limits.max_pages,
                          .only_decode = false};
  // A counter's place in the workspace must not depend on the pass.
  counters_ = attention_limits(limits.shape, limits.max_tokens, false, multiprocessors_).counters;
  const AttentionLimits max = limits_of(largest);
  const bool planned = limits.kv_dtype != DType::f32;
  const Layout layout = layout_of(largest, planned ? attention_plan_bytes(max) : 0);
  host_ = allocate_pinned_array<std::byte>(layout.bytes, "staging batches");
  device_ = allocate_array<std::byte>(layout.bytes, "batches");
  if (planned) {
    workspace_bytes_ = attention_workspace_bytes(max, limits.shape);
    workspace_ = allocate_array<std::byte>(workspace_bytes_, "attention's workspace");
  }
}

void PassBatch::clear_workspace(Stream stream) {
  if (workspace_) fill_bytes(workspace_.get(), 0, workspace_bytes_, stream);
}

AttentionLimits PassBatch::limits_of(const PassShape& shape) const {
  AttentionLimits limits =
      attention_limits(limits_.shape, shape.n_tokens, shape.only_decode, multiprocessors_);
  limits.counters = counters_;
  return limits;
}

PassBatch::Layout PassBatch::layout_of(const PassShape& shape, std::size_t plan_bytes) const {
  Layout layout{};
  std::size_t at = 0;
  const auto place = [&](std::size_t elements) {
    const std::size_t begin = at;
    at = (at + elements * 4 + 15) / 16 * 16;
    return begin;
  };
  const auto n = static_cast<std::size_t>(shape.n_tokens);
  const std::size_t half = static_cast<std::size_t>(limits_.shape.rope_dim) / 2;
  layout.plan = place((plan_bytes + 3) / 4);
  layout.tokens = place(n);
  layout.positions = place(n);
  layout.sequence_of = place(n);
  layout.logit_rows = place(static_cast<std::size_t>(shape.n_logit_rows));
  layout.rope_cos = place(n * half);
  layout.rope_sin = place(n * half);
  layout.block_table =
      place(static_cast<std::size_t>(shape.n_sequences) * static_cast<std::size_t>(shape.table_stride));
  layout.bytes = at;
  return layout;
}

PassShape PassBatch::shape_of(const Pass& pass, bool padded) const {
  const Batch& b = *pass.batch;
  const bool only_decode = b.n_tokens == b.n_sequences;
  PassShape shape{.n_tokens = b.n_tokens,
                  .n_sequences = b.n_sequences,
                  .n_logit_rows = pass.n_logit_rows,
                  .table_stride = std::max(1, b.block_table_stride),
                  .only_decode = only_decode};
  if (!padded || !only_decode || pass.n_logit_rows != b.n_tokens) return shape;
  shape.n_tokens = shape.n_sequences = shape.n_logit_rows =
      std::min({power_of_two(b.n_tokens), limits_.max_sequences, limits_.max_tokens});
  shape.table_stride = std::min(power_of_two(std::max(b.block_table_stride, kMinStride)), limits_.max_pages);
  return shape;
}

void PassBatch::check(const Pass& pass, const PassShape& shape) const {
  const Batch& b = *pass.batch;
  if (shape.n_tokens > limits_.max_tokens || shape.n_sequences > std::max(limits_.max_sequences, 1) ||
      shape.n_logit_rows > limits_.max_sequences || b.block_table_stride > shape.table_stride ||
      shape.table_stride > limits_.max_pages)
    throw Error(ErrorCode::internal, "a pass exceeds its limits",
                {{"tokens", b.n_tokens}, {"sequences", b.n_sequences}, {"pages", b.block_table_stride}});
}

void PassBatch::fill_host(const Pass& pass, const PassShape& shape, const Layout& layout) {
  const Batch& b = *pass.batch;
  std::byte* const host = host_.get();
  std::memset(host, 0, layout.bytes);
  const auto put = [&](std::size_t offset, const void* from, std::size_t elements) {
    if (from && elements > 0) std::memcpy(host + offset, from, elements * 4);
  };
  const auto n = static_cast<std::size_t>(b.n_tokens);
  const std::size_t half = static_cast<std::size_t>(limits_.shape.rope_dim) / 2;
  put(layout.tokens, b.tokens, n);
  put(layout.positions, b.positions, n);
  auto* const positions = reinterpret_cast<std::int32_t*>(host + layout.positions);
  std::fill(positions + n, positions + shape.n_tokens, -1);
  put(layout.sequence_of, b.sequence_of, n);
  put(layout.logit_rows, pass.logit_rows, static_cast<std::size_t>(pass.n_logit_rows));
  put(layout.rope_cos, b.rope_cos, n * half);
  put(layout.rope_sin, b.rope_sin, n * half);
  for (std::int32_t s = 0; s < b.n_sequences; s++)
    put(layout.block_table + static_cast<std::size_t>(s) * static_cast<std::size_t>(shape.table_stride) * 4,
        b.block_table + static_cast<std::ptrdiff_t>(s) * b.block_table_stride,
        static_cast<std::size_t>(b.block_table_stride));
  if (limits_.kv_dtype == DType::f32) return;
  const AttentionPlan plan(positions, reinterpret_cast<const std::int32_t*>(host + layout.sequence_of),
                           shape.n_tokens, limits_.shape, attention_limits_, multiprocessors_);
  std::memcpy(host + layout.plan, plan.data(), plan.size());
}

void PassBatch::stage(const Pass& pass, const PassShape& shape, Stream stream) {
  check(pass, shape);
  attention_limits_ = limits_of(shape);
  const bool planned = limits_.kv_dtype != DType::f32;
  const Layout layout = layout_of(shape, planned ? attention_plan_bytes(attention_limits_) : 0);
  fill_host(pass, shape, layout);
  copy_to_device(device_.get(), host_.get(), layout.bytes, stream);

  const std::byte* const device = device_.get();
  const auto ints = [&](std::size_t offset) {
    return reinterpret_cast<const std::int32_t*>(device + offset);
  };
  const auto floats = [&](std::size_t offset) { return reinterpret_cast<const float*>(device + offset); };
  shape_ = shape;
  plan_ = device + layout.plan;
  logit_rows_ = ints(layout.logit_rows);
  batch_ = {.n_tokens = shape.n_tokens,
            .n_sequences = shape.n_sequences,
            .tokens = reinterpret_cast<const std::uint32_t*>(device + layout.tokens),
            .positions = ints(layout.positions),
            .sequence_of = ints(layout.sequence_of),
            .block_table = ints(layout.block_table),
            .block_table_stride = shape.table_stride,
            .rope_cos = floats(layout.rope_cos),
            .rope_sin = floats(layout.rope_sin)};
}

}  // namespace cria::cuda
