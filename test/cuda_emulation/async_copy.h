// Copies under way, and the mbarriers that count them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cria::cuda::emulation {

struct Thread;

struct AsyncCopy {
  unsigned char* to;          // shared memory
  const unsigned char* from;  // null: zeros alone
  std::uint32_t bytes;        // written
  std::uint32_t read;         // of `from`; the rest is zeros
};

/// Of one thread: committed groups, oldest first, then what is not committed.
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
  std::vector<AsyncCopy> arriving;  // what the current phase brings
  std::vector<AsyncCopy> arrived;   // of completed phases, seen by the next wait that succeeds
  std::vector<Thread*> waiting;
};

}  // namespace cria::cuda::emulation
