// What the plan and the kernels of attention must agree on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention_plan.h"

namespace cria::cuda {

inline constexpr std::int32_t kDecodeRows = 16;       // rows of a decode tile: those of one mma
inline constexpr std::int32_t kPrefillRows = 128;     // of a prefill tile: eight warps of 16
inline constexpr std::int32_t kMaxRowsOfDecode = 64;  // of a sequence: more go to the prefill kernel
inline constexpr std::int32_t kMaxPrefillDim = 128;   // padded head sizes that the prefill kernel takes

/// Offsets in bytes: counters (one for each of the plan's and KV head), then greatest score and sum of a row,
/// then its outputs. Row r of KV head h is number r * n_kv_heads + h.
struct WorkspaceLayout {
  std::size_t stats = 0, out = 0, bytes = 0;
};
WorkspaceLayout workspace_layout(const AttentionLimits& limits, const AttentionShape& shape);

}  // namespace cria::cuda
