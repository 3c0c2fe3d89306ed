// The memory bandwidth of this machine under its current load, for a stream of reads or of reads and writes.
#pragma once

#include <cstddef>

#include "core/huge_memory.h"
#include "core/thread_pool.h"
#include "kernels/elementary.h"

namespace cria {

/// Cycles through 512 MiB, far more than any cache.
class MemoryStreams final : public MemoryProbe {
 public:
  /// Throws ERR_OUT_OF_MEMORY. `pool` outlives it.
  explicit MemoryStreams(ThreadPool& pool);

  /// Reads or writes a few tens of MiB a call. Writes bypass the cache.
  double gbs(int reads, int writes) override;

 private:
  ThreadPool& pool_;
  HugeMemory memory_;
  std::size_t read_at_ = 0, write_at_ = 0;
};

}  // namespace cria
