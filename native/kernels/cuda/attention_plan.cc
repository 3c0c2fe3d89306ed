#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/kv_cache.h"

namespace cria::cuda {
namespace {

// Blocks that keep a multiprocessor busy: while some wait for memory or for each other, others work.
constexpr std::int32_t kBlocksPerMultiprocessor = 3;
// Of partial results: 34 MB for 8 KV heads of 128 dimensions. What does not fit is not split.
constexpr std::int32_t kSlotRows = 8192;

std::int32_t ceil_divide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

std::int32_t group_of(const AttentionShape& shape) { return shape.n_heads / shape.n_kv_heads; }

/// Blocks to aim at, for each KV head.
std::int32_t wanted_blocks(const AttentionShape& shape, std::int32_t multiprocessors) {
  return ceil_divide(kBlocksPerMultiprocessor * multiprocessors, shape.n_kv_heads);
}

}  // namespace

AttentionLimits attention_limits(const AttentionShape& shape, std::int32_t max_tokens, bool only_decode,
                                 std::int32_t multiprocessors) {
  const std::int32_t rows = max_tokens * group_of(shape), wanted = wanted_blocks(shape, multiprocessors);
  AttentionLimits limits;
  const std::int32_t tiles = max_tokens * ceil_divide(group_of(shape), kDecodeRows);
  limits.decode_tiles = tiles + wanted + 1;
  limits.prefill_tiles = only_decode ? 0 : 3 * ceil_divide(rows, kPrefillRows) + 1;
  limits.counters = std::min(tiles, wanted + 1);
  limits.slot_rows = kSlotRows;
  return limits;
}

std::size_t attention_plan_bytes(const AttentionLimits& limits) {
  return static_cast<std::size_t>(limits.decode_tiles + limits.prefill_tiles) * sizeof(AttentionTile);
}

std::size_t attention_workspace_bytes(const AttentionLimits& limits, const AttentionShape& shape) {
  const WorkspaceLayout layout = workspace_layout(limits, shape);
  return layout.bytes;
}

WorkspaceLayout workspace_layout(const AttentionLimits& limits, const AttentionShape& shape) {
  const std::size_t heads = static_cast<std::size_t>(shape.n_kv_heads);
  const std::size_t rows = static_cast<std::size_t>(limits.slot_rows) * heads;
  WorkspaceLayout layout;
  layout.stats = (static_cast<std::size_t>(limits.counters) * heads * 4 + 255) / 256 * 256;
  layout.out = layout.stats + rows * 8;
  layout.bytes = layout.out + rows * static_cast<std::size_t>(padded_head_dim(shape.head_dim)) * 4;
  return layout;
}

AttentionPlan::AttentionPlan(const std::int32_t* positions, const std::int32_t* sequence_of,
                             std::int32_t n_tokens, const AttentionShape& shape,
                             const AttentionLimits& limits, std::int32_t multiprocessors)
    : bytes_(attention_plan_bytes(limits)) {
  const std::int32_t group = group_of(shape);
  std::vector<AttentionTile> decode, prefill;
  for (std::int32_t first = 0, end; first < n_tokens; first = end) {
    end = first + 1;
    if (positions[first] < 0) continue;
    while (end < n_tokens && sequence_of[end] == sequence_of[first] &&
           positions[end] == positions[end - 1] + 1)
      end++;
    const std::int32_t rows = (end - first) * group;
    const bool few = rows <= kMaxRowsOfDecode || padded_head_dim(shape.head_dim) > kMaxPrefillDim;
    const std::int32_t most = few ? kDecodeRows : kPrefillRows;
    for (std::int32_t r = 0; r < rows; r += most) {
      AttentionTile tile{};
      tile.first_row = first * group + r;
      tile.n_rows = std::min(most, rows - r);
      tile.sequence = sequence_of[first];
      tile.first_position = positions[first] + r / group;
      tile.end_span = span_of(positions[first] + (r + tile.n_rows - 1) / group) + 1;
      tile.n_spans = tile.first_end = tile.end_span;
      tile.n_parts = 1;
      (few ? decode : prefill).push_back(tile);
    }
  }
  const auto last_position = [&](const AttentionTile& t) {
    return positions[(t.first_row + t.n_rows - 1) / group];
  };
  // The longest first: what begins last should end soon.
  const auto longer = [&](const AttentionTile& a, const AttentionTile& b) {
    return last_position(a) > last_position(b);
  };
  std::stable_sort(decode.begin(), decode.end(), longer);
  std::stable_sort(prefill.begin(), prefill.end(), longer);
  const auto require = [](std::size_t needed, std::int32_t room, const char* what) {
    if (needed > static_cast<std::size_t>(room))
      throw Error(ErrorCode::internal, std::string("attention's plan has too little room for ") + what,
                  {{"expected", static_cast<double>(needed)}, {"found", static_cast<double>(room)}});
  };
  require(decode.size(), limits.decode_tiles, "decode tiles");
  require(prefill.size(), limits.prefill_tiles, "prefill tiles");

  std::int64_t tokens = 0;
  for (const AttentionTile& t : decode) tokens += last_position(t) + 1;
  const std::int32_t wanted = wanted_blocks(shape, multiprocessors);
  const std::int32_t tokens_of_part =
      std::max(kShortSpanTokens, static_cast<std::int32_t>((tokens + wanted - 1) / wanted));
  std::vector<AttentionTile> parts;
  std::int32_t counters = 0, slot_rows = 0;
  for (std::size_t i = 0; i < decode.size(); i++) {
    const AttentionTile& whole = decode[i];
    const std::size_t before = parts.size();
    for (std::int32_t span = 0; span < whole.n_spans;) {
      AttentionTile part = whole;
      part.first_span = span;
      while (span < whole.n_spans && (span == part.first_span ||
                                      span_begin(span + 1) - span_begin(part.first_span) <= tokens_of_part))
        span++;
      part.end_span = span;
      parts.push_back(part);
    }
    const std::size_t n = parts.size() - before;
    if (n == 1) continue;
    const std::int32_t slots = whole.n_spans - parts[before].end_span + 1;
    if (parts.size() + (decode.size() - i - 1) > static_cast<std::size_t>(limits.decode_tiles) ||
        counters == limits.counters || slot_rows + slots * whole.n_rows > limits.slot_rows) {
      parts.resize(before);
      parts.push_back(whole);
      continue;
    }
    const std::int32_t first_end = parts[before].end_span;
    for (std::size_t p = before; p < parts.size(); p++) {
      parts[p].n_parts = static_cast<std::int32_t>(n);
      parts[p].first_end = first_end;
      parts[p].slot_row = slot_rows;
      parts[p].counter = counters;
    }
    counters++;
    slot_rows += slots * whole.n_rows;
  }

  if (!parts.empty()) std::memcpy(bytes_.data(), parts.data(), parts.size() * sizeof(AttentionTile));
  if (!prefill.empty())
    std::memcpy(bytes_.data() + static_cast<std::size_t>(limits.decode_tiles) * sizeof(AttentionTile),
                prefill.data(), prefill.size() * sizeof(AttentionTile));
}

}  // namespace cria::cuda
