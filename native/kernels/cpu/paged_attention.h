// Paged attention on several threads: divides the work into parts, and merges their results.
#pragma once

#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace cria {

/// Contexts are cut into spans at fixed positions, which are merged in order. So results have the same bits
/// whatever thread computes a span, together with whatever tokens (docs/numerics.md).
class PagedAttention {
 public:
  /// One call at a time.
  void run(const CpuKernels& kernels, ThreadPool& pool, const PagedAttentionArgs& args);

 private:
  struct Pass;
  /// Consecutive tokens of one sequence whose attention is computed together.
  struct QueryTile {
    std::int32_t first, count, spans;
  };
  /// An item is one KV head of a tile; a part is one span of an item, with a slot of its own for the result.
  struct Part {
    std::int64_t item, slot;
    std::int32_t span;
  };
  void find_query_tiles(const Batch& batch, std::int32_t group);
  void find_parts(std::int32_t kv_heads, std::int32_t max_spans);

  // Reused from call to call.
  std::vector<QueryTile> query_tiles_;
  std::vector<std::int64_t> first_slot_;  // of each item that is cut into parts
  std::vector<Part> parts_;
  std::vector<float> partial_, partial_max_sum_;
};

}  // namespace cria
