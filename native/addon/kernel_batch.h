// Parts of a kernel call that are no tensors: which tokens attend to which pages, angles, and the choice of a
// token.
#pragma once

#include <cstdint>
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

/// Tokens of sequences: fields `first` and `count` [n_sequences], and `pages` [n_sequences, stride], each
/// within the cache and enough for its sequence.
class KernelBatch {
 public:
  KernelBatch(KernelCall& call, const std::vector<std::int64_t>& kv_shape);
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(positions_.size()); }
  const std::vector<std::int32_t>& positions() const { return positions_; }
  /// Valid as long as this and the table.
  Batch view(const RopeTable* table) const;

 private:
  std::int32_t n_sequences_ = 0, stride_ = 0;
  std::vector<std::int32_t> positions_, sequence_of_, pages_;
};

/// The op "sample": greedy on the device, the rest by the sampler.
void sample_kernel(KernelCall& call);

}  // namespace cria
