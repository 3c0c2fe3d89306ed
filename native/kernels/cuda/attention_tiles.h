// What the plan and the attention kernels must agree on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention_plan.h"

namespace cria::cuda {

/// Rows of a decode tile: those of one mma.
inline constexpr std::int32_t kDecodeRows = 16;
/// Rows of a prefill tile: eight warps of sixteen.
inline constexpr std::int32_t kPrefillRows = 128;
/// Rows of one sequence that the decode kernel takes; more go to the prefill kernel.
inline constexpr std::int32_t kMaxRowsOfDecode = 64;
/// The largest padded head size that the prefill kernel takes.
inline constexpr std::int32_t kMaxPrefillDim = 128;

/// Offsets in bytes: counters (AttentionLimits::counters for each KV head), then the rows' maximum and sum,
/// then their outputs. Row r of KV head h is number r * n_kv_heads + h.
struct WorkspaceLayout {
  std::size_t stats = 0, out = 0, bytes = 0;
};
WorkspaceLayout workspace_layout(const AttentionLimits& limits, const AttentionShape& shape);

}  // namespace cria::cuda
