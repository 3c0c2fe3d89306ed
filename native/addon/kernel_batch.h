// The parts of a kernel call that are not tensors: block tables, RoPE angles, passes, and sampling.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "addon/kernel_call.h"

namespace cria {

/// cos and sin of RoPE for a call's positions, from the fields `frequencies` [rope_dim / 2] and `magnitude`.
class RopeTable {
 public:
  RopeTable(KernelCall& call, const std::vector<std::int32_t>& positions, std::int32_t head_dim);
  std::int32_t rope_dim() const { return rope_dim_; }
  std::int64_t n_tokens() const { return n_tokens_; }
  void to_device(ElementaryOps& ops);
  /// [n_tokens, rope_dim / 2], as sin().
  const float* cos() const { return reinterpret_cast<const float*>(cos_.data); }
  const float* sin() const { return reinterpret_cast<const float*>(sin_.data); }

 private:
  std::int32_t rope_dim_;
  std::int64_t n_tokens_;
  TensorMemory cos_, sin_;
};

/// Consecutive tokens of a call, few enough for one pass of a backend.
struct BatchPart {
  std::int64_t first = 0;  // index of its first token among those of the call
  Batch batch;
  std::vector<std::int32_t> sequence_of;  // batch.sequence_of points to it
};

/// The tokens and block tables of a call, from the fields `first` and `count` [n_sequences] and `pages`
/// [n_sequences, stride]. Checks that every page is in the cache and that the pages hold all tokens.
class KernelBatch {
 public:
  KernelBatch(KernelCall& call, const std::vector<std::int64_t>& kv_shape);
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int32_t n_sequences() const { return n_sequences_; }
  /// The maximum of a sequence.
  std::int32_t n_pages() const { return stride_; }
  const std::vector<std::int32_t>& positions() const { return positions_; }
  /// Points into this object and the table, which must be on the host.
  BatchPart part(std::int64_t first, std::int32_t n, const RopeTable* table) const;

 private:
  std::int32_t n_sequences_ = 0, stride_ = 0;  // sequences without tokens are left out
  std::vector<std::int32_t> positions_, sequence_of_, pages_;
};

/// Limits for passes without attention.
PassLimits plain_limits(std::int64_t matrix_cols);

/// Runs an op of ops.h on n tokens, in passes of at most as many as the backend takes. The division does not
/// change a bit of the result (docs/numerics.md). Sets limits.max_tokens; `part(first, n)` describes the
/// tokens of a pass, and only `op(part)` is timed.
void run_in_passes(Backend& backend, const Timed& timed, PassLimits limits, std::int64_t n_tokens,
                   const std::function<BatchPart(std::int64_t first, std::int32_t n)>& part,
                   const std::function<void(const BatchPart&)>& op);

/// The op "sample": greedy on the device, every other method in the sampler.
void sample_kernel(KernelCall& call);

}  // namespace cria
