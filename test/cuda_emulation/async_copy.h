// Copies in flight, and the mbarriers that count them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cria::cuda::emulation {

struct Thread;

struct AsyncCopy {
  unsigned char* to;          // in shared memory
  const unsigned char* from;  // null: only zeros are written
  std::uint32_t bytes;        // written
  std::uint32_t read;         // of `from`; the rest is zeros
};

/// One thread's cp.async: committed groups, oldest first, then copies not yet committed.
struct AsyncCopies {
  std::vector<AsyncCopy> copies;
  std::vector<std::size_t> group_ends;  // into copies
  bool empty() const { return copies.empty() && group_ends.empty(); }
  void clear() {
    copies.clear();
    group_ends.clear();
  }
};

struct Mbarrier {
  const void* address;
  std::uint32_t expected, pending;
  std::int64_t bytes_pending = 0;
  std::uint64_t phase = 0;          // completed phases
  std::vector<AsyncCopy> arriving;  // of the current phase
  std::vector<AsyncCopy> arrived;   // of completed phases; the next successful wait makes them visible
  std::vector<Thread*> waiting;
};

}  // namespace cria::cuda::emulation
