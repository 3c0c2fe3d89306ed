// Paged attention among the threads: which of them computes which part of it, and the merging of the parts.
#pragma once

#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace cria {

/// Spans of a context are cut at fixed positions and merged in order, so who computes them, with which other
/// tokens, and in how many pieces, changes no bit (docs/numerics.md).
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
  /// An item is one KV head of a tile; a part is one span of it, with a slot of its own for the result.
  struct Part {
    std::int64_t item, slot;
    std::int32_t span;
  };
  void find_query_tiles(const Batch& batch, std::int32_t group);
  void find_parts(std::int32_t kv_heads, std::int32_t most_spans);

  // Kept from call to call.
  std::vector<QueryTile> query_tiles_;
  std::vector<std::int64_t> first_slot_;  // of an item that is cut into parts
  std::vector<Part> parts_;
  std::vector<float> partial_, partial_max_sum_;
};

}  // namespace cria
