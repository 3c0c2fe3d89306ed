// What the memory of this machine gives to a stream of reads, or of reads and writes, as it is now.
#pragma once

#include <cstddef>

#include "core/huge_memory.h"
#include "core/thread_pool.h"
#include "kernels/elementary.h"

namespace cria {

/// 512 MiB, far more than any cache, read and written round and round.
class MemoryStreams final : public MemoryProbe {
 public:
  /// Throws ERR_OUT_OF_MEMORY. `pool` outlives it.
  explicit MemoryStreams(ThreadPool& pool);

  /// A few tens of MiB at a time. Writes go past the cache.
  double gbs(int reads, int writes) override;

 private:
  ThreadPool& pool_;
  HugeMemory memory_;
  std::size_t read_at_ = 0, write_at_ = 0;
};

}  // namespace cria
