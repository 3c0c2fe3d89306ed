// A pass's batch on the device: tokens, positions, block tables, angles and the plan of attention, copied at
// once. Their offsets depend only on the numbers of tokens and pages (PassShape), so a recorded pass finds
// the next batch in the same place.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/owned.h"

namespace cria::cuda {

/// What the launches of a pass depend on, apart from addresses, which never change.
struct PassShape {
  // With padding.
  std::int32_t n_tokens = 0, n_sequences = 0, n_logit_rows = 0;
  std::int32_t table_stride = 0;
  // One token of each sequence.
  bool only_decode = false;
};

class PassBatch {
 public:
  /// Room for the largest pass.
  PassBatch(const PassLimits& limits, const DeviceProperties& device);

  /// The shape that the pass runs with. With `padded`, decode passes (one token of each sequence, all with
  /// logits) have one of a few shapes; padding has position -1.
  PassShape shape_of(const Pass& pass, bool padded) const;
  /// Copies the pass to the device in the stream. The previous one must have ended.
  void stage(const Pass& pass, const PassShape& shape, Stream stream);

  /// Before the first pass, and after one that did not end.
  void clear_workspace(Stream stream);

  /// All pointers on the device.
  const Batch& batch() const { return batch_; }
  const std::int32_t* logit_rows() const { return logit_rows_; }
  AttentionBuffers attention() const { return {plan_, workspace_.get(), attention_limits_}; }
  const PassShape& shape() const { return shape_; }

 private:
  struct Layout {
    std::size_t plan, tokens, positions, sequence_of, logit_rows, rope_cos, rope_sin, block_table, bytes;
  };
  Layout layout_of(const PassShape& shape, std::size_t plan_bytes) const;
  AttentionLimits limits_of(const PassShape& shape) const;
  /// Throws ERR_INTERNAL for a pass beyond the limits.
  void check(const Pass& pass, const PassShape& shape) const;
  void fill_host(const Pass& pass, const PassShape& shape, const Layout& layout);

  const PassLimits limits_;
  const std::int32_t multiprocessors_;
  // Of the workspace, the same for every pass.
  std::int32_t counters_ = 0;
  PinnedMemory<std::byte> host_;
  DeviceMemory<std::byte> device_;
  DeviceMemory<std::byte> workspace_;
  std::size_t workspace_bytes_ = 0;

  PassShape shape_;
  Batch batch_;
  const std::int32_t* logit_rows_ = nullptr;
  const std::byte* plan_ = nullptr;
  AttentionLimits attention_limits_;
};

}  // namespace cria::cuda
