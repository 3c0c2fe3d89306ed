#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/kv_cache.h"

namespace cria::cuda {
namespace {

// Blocks that keep a multiprocessor busy: while some wait for memory or at a barrier, others compute.
constexpr std::int32_t kBlocksPerMultiprocessor = 3;
// Rows of partial results: 34 MB for 8 KV heads of 128 dimensions. A tile that would need more is not split.
constexpr std::int32_t kSlotRows = 8192;

std::int32_t ceil_divide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

std::int32_t group_of(const AttentionShape& shape) { return shape.n_heads / shape.n_kv_heads; }

/// Blocks to aim at, for each KV head.
std::int32_t wanted_blocks(const AttentionShape& shape, std::int32_t multiprocessors) {
  return ceil_divide(kBlocksPerMultiprocessor * multiprocessors, shape.n_kv_heads);
}

struct Tiles {
  std::vector<AttentionTile> decode, prefill;
};

/// The batch in tiles that each take their whole context. Runs of consecutive positions of one sequence share
/// tiles; few rows go to the decode kernel.
Tiles whole_tiles(const std::int32_t* positions, const std::int32_t* sequence_of, std::int32_t n_tokens,
                  const AttentionShape& shape) {
  const std::int32_t group = group_of(shape);
  Tiles tiles;
  for (std::int32_t first = 0, end; first < n_tokens; first = end) {
    end = first + 1;
    if (positions[first] < 0) continue;
    while (end < n_tokens && sequence_of[end] == sequence_of[first] &&
           positions[end] == positions[end - 1] + 1)
      end++;
    const std::int32_t rows = (end - first) * group;
    const bool few = rows <= kMaxRowsOfDecode || padded_head_dim(shape.head_dim) > kMaxPrefillDim;
    const std::int32_t tile_rows = few ? kDecodeRows : kPrefillRows;
    for (std::int32_t r = 0; r < rows; r += tile_rows) {
      const std::int32_t n_rows = std::min(tile_rows, rows - r);
      const std::int32_t n_spans = span_of(positions[first] + (r + n_rows - 1) / group) + 1;
      (few ? tiles.decode : tiles.prefill)
          .push_back({.first_row = first * group + r,
                      .n_rows = n_rows,
                      .sequence = sequence_of[first],
                      .first_position = positions[first] + r / group,
                      .first_span = 0,
                      .end_span = n_spans,
                      .n_parts = 1,
                      .n_spans = n_spans,
                      .first_end = n_spans,
                      .slot_row = 0,
                      .counter = 0,
                      .unused = 0});
    }
  }
  return tiles;
}

/// Cuts tiles into parts of about `part_tokens` tokens, as far as the limits give room.
class Splitter {
 public:
  Splitter(const AttentionLimits& limits, std::int32_t part_tokens)
      : limits_(limits), part_tokens_(part_tokens) {}

  /// `n_left`: tiles that follow, each of which needs room for at least one part.
  void add(const AttentionTile& whole, std::size_t n_left) {
    const std::size_t before = parts_.size();
    cut(whole);
    const std::size_t n = parts_.size() - before;
    if (n == 1) return;
    const std::int32_t first_end = parts_[before].end_span;
    const std::int32_t slots = whole.n_spans - first_end + 1;
    if (parts_.size() + n_left > static_cast<std::size_t>(limits_.decode_tiles) ||
        counters_ == limits_.counters || slot_rows_ + slots * whole.n_rows > limits_.slot_rows) {
      parts_.resize(before);
      parts_.push_back(whole);
      return;
    }
    for (std::size_t p = before; p < parts_.size(); p++) {
      parts_[p].n_parts = static_cast<std::int32_t>(n);
      parts_[p].first_end = first_end;
      parts_[p].slot_row = slot_rows_;
      parts_[p].counter = counters_;
    }
    counters_++;
    slot_rows_ += slots * whole.n_rows;
  }
  const std::vector<AttentionTile>& parts() const { return parts_; }

 private:
  /// Whole spans to each part, at least one.
  void cut(const AttentionTile& whole) {
    for (std::int32_t span = 0; span < whole.n_spans;) {
      AttentionTile part = whole;
      part.first_span = span;
      while (span < whole.n_spans &&
             (span == part.first_span || span_begin(span + 1) - span_begin(part.first_span) <= part_tokens_))
        span++;
      part.end_span = span;
      parts_.push_back(part);
    }
  }

  const AttentionLimits& limits_;
  std::int32_t part_tokens_;
  std::vector<AttentionTile> parts_;
  std::int32_t counters_ = 0, slot_rows_ = 0;
};

void require_room(std::size_t needed, std::int32_t room, const char* what) {
  if (needed > static_cast<std::size_t>(room))
    throw Error(ErrorCode::internal, std::string("attention's plan has too little room for ") + what,
                {{"expected", needed}, {"found", room}});
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
  auto [decode, prefill] = whole_tiles(positions, sequence_of, n_tokens, shape);
  const auto last_position = [positions, group = group_of(shape)](const AttentionTile& t) {
    return positions[(t.first_row + t.n_rows - 1) / group];
  };
  // The longest first: blocks that start last should be short.
  const auto longer = [&](const AttentionTile& a, const AttentionTile& b) {
    return last_position(a) > last_position(b);
  };
  std::stable_sort(decode.begin(), decode.end(), longer);
  std::stable_sort(prefill.begin(), prefill.end(), longer);
  require_room(decode.size(), limits.decode_tiles, "decode tiles");
  require_room(prefill.size(), limits.prefill_tiles, "prefill tiles");

  std::int64_t tokens = 0;
  for (const AttentionTile& t : decode) tokens += last_position(t) + 1;
  const std::int32_t wanted = wanted_blocks(shape, multiprocessors);
  Splitter splitter(limits,
                    std::max(kShortSpanTokens, static_cast<std::int32_t>((tokens + wanted - 1) / wanted)));
  for (std::size_t i = 0; i < decode.size(); i++) splitter.add(decode[i], decode.size() - i - 1);

  const auto copy = [this](const std::vector<AttentionTile>& tiles, std::int32_t at) {
    if (!tiles.empty())
      std::memcpy(bytes_.data() + static_cast<std::size_t>(at) * sizeof(AttentionTile), tiles.data(),
                  tiles.size() * sizeof(AttentionTile));
  };
  copy(splitter.parts(), 0);
  copy(prefill, limits.decode_tiles);
}

}  // namespace cria::cuda
