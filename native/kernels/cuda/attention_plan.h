// How one batch's attention is divided among blocks. Made on the host for each forward pass, read by the
// kernels from device memory: a captured graph stays valid while sequences grow. Plain C++; nothing here
// touches a device.
//
// Whatever the plan, results have the same bits (docs/numerics.md): it decides who computes which span, not
// the order of summation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"

namespace cria::cuda {

// A context is cut into spans at fixed positions: 16 of 128 tokens, then all of 512. Short ones occupy the
// device at short contexts; long ones keep the partial results few.
inline constexpr std::int32_t kShortSpanTokens = 128, kShortSpans = 16, kLongSpanTokens = 512;
inline constexpr std::int32_t kShortContext = kShortSpanTokens * kShortSpans;

constexpr std::int32_t span_begin(std::int32_t span) {
  return span <= kShortSpans ? span * kShortSpanTokens
                             : kShortContext + (span - kShortSpans) * kLongSpanTokens;
}
constexpr std::int32_t span_of(std::int32_t position) {
  return position < kShortContext ? position / kShortSpanTokens
                                  : kShortSpans + (position - kShortContext) / kLongSpanTokens;
}

/// The work of one block for one KV head: rows first_row .. first_row + n_rows against spans first_span ..
/// end_span. Row = token of the batch * group + head of the group; a tile's rows belong to one sequence,
/// whose tokens have consecutive positions.
struct AttentionTile {
  std::int32_t first_row, n_rows;
  std::int32_t sequence;
  std::int32_t first_position;  // of the token of first_row
  std::int32_t first_span, end_span;
  // Several blocks may share a tile, each with some of its spans. The first leaves one partial result, the
  // others one for each span; the last to end merges them in order.
  std::int32_t n_parts;    // blocks; 1: none of what follows is used
  std::int32_t n_spans;    // of the tile
  std::int32_t first_end;  // end_span of its first part
  std::int32_t slot_row;   // row of the workspace where its partials begin, n_rows to each
  std::int32_t counter;    // index of its counter
  std::int32_t unused;
};

/// Room: part of a graph's identity, the same for all plans that it is launched with.
struct AttentionLimits {
  std::int32_t decode_tiles = 0;   // blocks of the decode kernel, for each KV head
  std::int32_t prefill_tiles = 0;  // of the prefill kernel
  std::int32_t slot_rows = 0;      // rows of partial results
  std::int32_t counters = 0;
};

/// What AttentionPlan may need at most for such batches. `only_decode`: one token of each sequence.
AttentionLimits attention_limits(const AttentionShape& shape, std::int32_t max_tokens, bool only_decode,
                                 std::int32_t multiprocessors);
std::size_t attention_plan_bytes(const AttentionLimits& limits);
/// Of the workspace, which must be zero-filled once, and may serve one stream's launches.
std::size_t attention_workspace_bytes(const AttentionLimits& limits, const AttentionShape& shape);

/// The plan: decode tiles, then prefill tiles, as many as there is room for; those without rows are not used.
/// All attention_plan_bytes() are to be copied to the device before the launch. positions, sequence_of:
/// [n_tokens], on the host; a negative position is padding, which gets no result.
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
