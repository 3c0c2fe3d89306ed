// How one batch's attention is divided among blocks. The host makes a plan for each forward pass and the
// kernels read it from device memory, so a captured graph stays valid while sequences grow. Plain C++;
// nothing here touches a device.
//
// Results have the same bits whatever the plan (docs/numerics.md): it decides which block computes a span,
// not the order of summation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/host_device.h"
#include "kernels/ops.h"

namespace cria::cuda {

// A context is cut into spans at fixed positions: 16 of 128 tokens, then spans of 512. Short spans fill the
// device at short contexts; long ones keep partial results few.
inline constexpr std::int32_t kShortSpanTokens = 128, kShortSpans = 16, kLongSpanTokens = 512;
inline constexpr std::int32_t kShortContext = kShortSpanTokens * kShortSpans;

CRIA_HOST_DEVICE constexpr std::int32_t span_begin(std::int32_t span) {
  return span <= kShortSpans ? span * kShortSpanTokens
                             : kShortContext + (span - kShortSpans) * kLongSpanTokens;
}
constexpr std::int32_t span_of(std::int32_t position) {
  return position < kShortContext ? position / kShortSpanTokens
                                  : kShortSpans + (position - kShortContext) / kLongSpanTokens;
}

/// The work of one block for one KV head: rows first_row .. first_row + n_rows against spans first_span ..
/// end_span. Row r is head r % group of token r / group of the batch. A tile's rows belong to one sequence,
/// and their tokens have consecutive positions.
struct AttentionTile {
  std::int32_t first_row, n_rows;
  std::int32_t sequence;
  /// Position of the token of first_row.
  std::int32_t first_position;
  std::int32_t first_span, end_span;

  // Several blocks may share a tile, each with some of its spans. The first block stores one partial result,
  // the others one per span; the last block to end merges them in order.

  /// Blocks of the tile. Where it is 1, the members below are not used.
  std::int32_t n_parts;
  /// Spans of the whole tile.
  std::int32_t n_spans;
  /// end_span of the tile's first part.
  std::int32_t first_end;
  /// First row of the tile's partial results in the workspace; each has n_rows.
  std::int32_t slot_row;
  /// Index of the tile's counter.
  std::int32_t counter;
  std::int32_t unused;
};

/// Capacity: part of a graph's identity, the same for all plans that the graph is launched with.
struct AttentionLimits {
  /// Blocks of the decode kernel for each KV head.
  std::int32_t decode_tiles = 0;
  /// Blocks of the prefill kernel for each KV head.
  std::int32_t prefill_tiles = 0;
  /// Rows of partial results.
  std::int32_t slot_rows = 0;
  std::int32_t counters = 0;
};

/// An upper bound for all batches of up to max_tokens. `only_decode`: at most one token of each sequence.
AttentionLimits attention_limits(const AttentionShape& shape, std::int32_t max_tokens, bool only_decode,
                                 std::int32_t multiprocessors);
std::size_t attention_plan_bytes(const AttentionLimits& limits);
/// Bytes of the workspace, which must be zero-filled once and may serve one stream's launches.
std::size_t attention_workspace_bytes(const AttentionLimits& limits, const AttentionShape& shape);

/// The plan: limits.decode_tiles tiles, then limits.prefill_tiles; tiles without rows are not used. Copy all
/// attention_plan_bytes() to the device before the launch. positions, sequence_of: [n_tokens], on the host; a
/// negative position is padding, which gets no result.
class AttentionPlan {
 public:
  AttentionPlan(const std::int32_t* positions, const std::int32_t* sequence_of, std::int32_t n_tokens,
                const AttentionShape& shape, const AttentionLimits& limits, std::int32_t multiprocessors);
  const void* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace cria::cuda
