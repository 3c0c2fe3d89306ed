#include "kernels/cpu/paged_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/scratch.h"

namespace cria {
namespace {

/// Part of the order of summation.
constexpr std::int32_t kSpanTokens = 512;
/// Query rows of a tile, which share a block of pages while it is in the cache.
constexpr std::int32_t kQueryRows = 32;
/// Items are cut into parts unless each thread has work for this many of the longest.
constexpr std::int32_t kItemsPerThread = 8;

}  // namespace

/// What the parts of one call share. A slot holds the softmax state of each of its rows.
struct PagedAttention::Pass {
  const CpuKernels& kernels;
  const PagedAttentionArgs& args;
  const std::vector<QueryTile>& tiles;
  std::int32_t group, padded, rows;  // rows of a slot: those of the largest tile
  float* partial;
  float* max_sum;

  const AttentionShape& shape() const { return args.shape; }
  const Batch& batch() const { return *args.batch; }
  // Ordered by head, so that all tokens of a prompt read a head's pages while these are in the cache.
  const QueryTile& tile_of(std::int64_t item) const {
    return tiles[static_cast<std::size_t>(item) % tiles.size()];
  }
  std::int64_t head_of(std::int64_t item) const { return item / static_cast<std::int64_t>(tiles.size()); }
  /// Of the slot's rows from `first` on.
  SoftmaxState state_of(std::int64_t slot, std::int64_t first = 0) const {
    float* const max = max_sum + slot * rows * 2 + first;
    return {
        .max = max, .sum = max + rows, .out = partial + (slot * rows + first) * padded, .out_stride = padded};
  }

  void attend(std::int64_t item, std::int32_t span, std::int64_t slot) const {
    const QueryTile& tile = tile_of(item);
    const std::int64_t head = head_of(item),
                       q_dim = static_cast<std::int64_t>(shape().n_heads) * shape().head_dim;
    const bool f32 = args.kv.dtype == DType::f32;
    AttendSpan a;
    a.q = args.q + tile.first * q_dim + head * group * shape().head_dim;
    a.q_token_stride = q_dim;
    a.n_queries = tile.count;
    a.group = group;
    a.head_dim = shape().head_dim;
    a.scale = 1.0f / std::sqrt(static_cast<float>(shape().head_dim));
    a.pages = reinterpret_cast<const std::uint8_t*>(args.kv.pages) +
              static_cast<std::size_t>(head) * kv_block_elements(shape().head_dim) * (f32 ? 4 : 2);
    a.page_stride = args.kv.page_stride;
    a.block_table = batch().block_table +
                    static_cast<std::int64_t>(batch().sequence_of[tile.first]) * batch().block_table_stride +
                    span * (kSpanTokens / kCpuPageTokens);
    a.n_tokens = batch().positions[tile.first] + 1 - span * kSpanTokens;
    a.max_tokens = kSpanTokens;
    a.kv_f32 = f32;
    a.state = state_of(slot);
    kernels.attend(&a);
  }

  /// Merges the span in slot `from`, for the rows that see some of it: those of the tile's last tokens.
  void merge(std::int64_t item, std::int32_t span, std::int64_t into, std::int64_t from) const {
    const QueryTile& tile = tile_of(item);
    std::int32_t skipped = 0;
    while (batch().positions[tile.first + skipped] < span * kSpanTokens) skipped++;
    const std::int64_t first = static_cast<std::int64_t>(skipped) * group;
    const SoftmaxState state = state_of(into, first), later = state_of(from, first);
    kernels.merge_softmax(&state, &later, (tile.count - skipped) * group, shape().head_dim);
  }

  /// Writes the item's result.
  void normalize(std::int64_t item, std::int64_t slot) const {
    const QueryTile& tile = tile_of(item);
    const SoftmaxState state = state_of(slot);
    for (std::int32_t r = 0; r < tile.count * group; r++) {
      const std::int64_t token = tile.first + r / group, head = head_of(item) * group + r % group;
      float* const out = args.out + (token * shape().n_heads + head) * shape().head_dim;
      const float inverse = 1.0f / state.sum[r];
      const float* const from = state.out + static_cast<std::int64_t>(r) * padded;
      for (std::int32_t d = 0; d < shape().head_dim; d++) out[d] = from[d] * inverse;
    }
  }
};

void PagedAttention::find_query_tiles(const Batch& batch, std::int32_t group) {
  const std::int32_t max_tokens = std::max(1, kQueryRows / group);
  query_tiles_.clear();
  for (std::int32_t t = 0; t < batch.n_tokens; t++) {
    const std::int32_t spans = batch.positions[t] / kSpanTokens + 1;
    if (!query_tiles_.empty()) {
      QueryTile& last = query_tiles_.back();
      if (last.count < max_tokens && batch.sequence_of[t] == batch.sequence_of[t - 1] &&
          batch.positions[t] == batch.positions[t - 1] + 1) {
        last.count++;
        last.spans = spans;
        continue;
      }
    }
    query_tiles_.push_back({.first = t, .count = 1, .spans = spans});
  }
}

// Ordered by span first: threads then read neighbouring memory at a time, a page's heads one after the other.
void PagedAttention::find_parts(std::int32_t kv_heads, std::int32_t max_spans) {
  const auto tiles = static_cast<std::int64_t>(query_tiles_.size()), items = tiles * kv_heads;
  first_slot_.clear();
  std::int64_t slots = 0;
  for (std::int64_t item = 0; item < items; item++) {
    first_slot_.push_back(slots);
    slots += query_tiles_[static_cast<std::size_t>(item % tiles)].spans;
  }
  parts_.clear();
  for (std::int32_t span = 0; span < max_spans; span++)
    for (std::int64_t item = 0; item < items; item++)
      if (span < query_tiles_[static_cast<std::size_t>(item % tiles)].spans)
        parts_.push_back(
            {.item = item, .slot = first_slot_[static_cast<std::size_t>(item)] + span, .span = span});
}

void PagedAttention::run(const CpuKernels& kernels, ThreadPool& pool, const PagedAttentionArgs& args) {
  const AttentionShape& s = args.shape;
  const std::int32_t group = s.n_heads / s.n_kv_heads, padded = padded_head_dim(s.head_dim);
  find_query_tiles(*args.batch, group);
  std::int32_t max_spans = 1, max_queries = 1;
  std::int64_t spans = 0;
  for (const QueryTile& tile : query_tiles_) {
    max_spans = std::max(max_spans, tile.spans);
    max_queries = std::max(max_queries, tile.count);
    spans += static_cast<std::int64_t>(tile.spans) * s.n_kv_heads;
  }
  // With few long items per thread, the threads share their spans, each with a slot of its own. Otherwise a
  // thread takes whole items and needs two slots.
  const bool cut = max_spans > 1 && spans < std::int64_t{kItemsPerThread} * max_spans * pool.size();
  const std::int64_t slots = cut ? spans : 2 * pool.size();
  const std::int32_t rows = max_queries * group;
  const Pass pass{.kernels = kernels,
                  .args = args,
                  .tiles = query_tiles_,
                  .group = group,
                  .padded = padded,
                  .rows = rows,
                  .partial = ensure_size(partial_, slots * rows * padded),
                  .max_sum = ensure_size(partial_max_sum_, slots * rows * 2)};
  const std::int64_t items = static_cast<std::int64_t>(query_tiles_.size()) * s.n_kv_heads;

  if (cut) {
    find_parts(s.n_kv_heads, max_spans);
    pool.parallel_for(spans, 1, [&](std::int64_t i, std::int64_t) {
      const Part& part = parts_[static_cast<std::size_t>(i)];
      pass.attend(part.item, part.span, part.slot);
    });
    pool.parallel_for(items, 1, [&](std::int64_t item, std::int64_t) {
      const std::int64_t slot = first_slot_[static_cast<std::size_t>(item)];
      for (std::int32_t span = 1; span < pass.tile_of(item).spans; span++)
        pass.merge(item, span, slot, slot + span);
      pass.normalize(item, slot);
    });
  } else {
    pool.parallel_for(items, 1, [&](std::int64_t item, std::int64_t, int thread) {
      const std::int64_t slot = 2 * thread;
      pass.attend(item, 0, slot);
      for (std::int32_t span = 1; span < pass.tile_of(item).spans; span++) {
        pass.attend(item, span, slot + 1);
        pass.merge(item, span, slot, slot + 1);
      }
      pass.normalize(item, slot);
    });
  }
}

}  // namespace cria
