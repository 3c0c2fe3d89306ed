// Parts of a kernel call that are no tensors: which tokens attend to which pages, angles, and the choice of a
// token.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "addon/kernel_call.h"

namespace cria {

/// The angles of rope: fields `frequencies` [rope_dim / 2] and `magnitude`.
class RopeTable {
 public:
  RopeTable(KernelCall& call, const std::vector<std::int32_t>& positions, std::int32_t head_dim);
  std::int32_t rope_dim() const { return rope_dim_; }
  std::int64_t n_tokens() const { return n_tokens_; }
  void to_device(ElementaryOps& ops);
  const float* cos() const { return reinterpret_cast<const float*>(cos_.data); }  // [n_tokens, rope_dim / 2]
  const float* sin() const { return reinterpret_cast<const float*>(sin_.data); }

 private:
  std::int32_t rope_dim_;
  std::int64_t n_tokens_;
  TensorMemory cos_, sin_;
};

/// Consecutive tokens of a KernelBatch, few enough for one pass of a backend.
struct BatchPart {
  std::int64_t first;  // of the tokens of the whole
  Batch batch;
  std::vector<std::int32_t> sequence_of;  // what the batch points to
};

/// Tokens of sequences: fields `first` and `count` [n_sequences], and `pages` [n_sequences, stride], each
/// within the cache and enough for its sequence.
class KernelBatch {
 public:
  KernelBatch(KernelCall& call, const std::vector<std::int64_t>& kv_shape);
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int32_t n_sequences() const { return n_sequences_; }
  std::int32_t n_pages() const { return stride_; }  // of a sequence, at most
  const std::vector<std::int32_t>& positions() const { return positions_; }
  /// Points into this and the table, which lies on the host.
  BatchPart part(std::int64_t first, std::int32_t n, const RopeTable* table) const;

 private:
  std::int32_t n_sequences_ = 0, stride_ = 0;  // of those that have tokens
  std::vector<std::int32_t> positions_, sequence_of_, pages_;
};

/// Limits of passes that have nothing to do with attention.
PassLimits plain_limits(std::int64_t matrix_cols);

/// An op of ops.h over n tokens, in passes of as many as the backend takes: what is in a pass changes no bits
/// (docs/numerics.md). limits.max_tokens is filled in; `part(first, n)` describes a pass's tokens, `op(part)`
/// is measured.
void run_in_passes(Backend& backend, const Timed& timed, PassLimits limits, std::int64_t n_tokens,
                   const std::function<BatchPart(std::int64_t first, std::int32_t n)>& part,
                   const std::function<void(const BatchPart&)>& op);

/// The op "sample": greedy on the device, the rest by the sampler.
void sample_kernel(KernelCall& call);

}  // namespace cria
