// The state of a running grid: threads, warps, blocks. Private to the emulator.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emulation/async_copy.h"
#include "cuda_emulation/emulation.h"
#include "cuda_emulation/emulator.h"
#include "cuda_emulation/fiber.h"
#include "cuda_emulation/race.h"

namespace cria::cuda::emulation {

struct Block;

struct Random {
  std::uint64_t state;
  std::uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
  unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 32) * n >> 32); }
};

enum class ThreadState : std::uint8_t { unstarted, running, ready, waiting, done };

struct Thread {
  Coordinates at;
  unsigned linear = 0;
  ThreadState state = ThreadState::unstarted;
  Block* block = nullptr;
  Fiber* fiber = nullptr;
  const char* waits_for = "";  // for error messages
  std::uint32_t waits_mask = 0;
  AsyncCopies copies;

  unsigned lane() const { return linear % 32; }
  unsigned warp() const { return linear / 32; }
};

/// A collective that some lanes of its mask have not reached yet.
struct PendingCollective {
  std::uint32_t mask = 0, arrived = 0;  // mask 0: a free entry
  const char* operation = nullptr;
  void* lanes[32];
};

struct Warp {
  PendingCollective collectives[4];
};

struct NamedBarrier {
  unsigned expected = 0, arrived = 0;
  std::vector<Thread*> waiting;
  int any = 0, all = 1, count = 0;  // of the votes so far
};

struct SharedGuard {
  const unsigned char* begin;
  std::size_t bytes;
};

struct SharedRegion {
  const void* key;     // of the static struct; null for dynamic memory
  std::size_t offset;  // of dynamic memory, as DynamicShared counts
  std::size_t bytes;   // with the padding for alignment
  unsigned char* at;
  std::size_t usable;  // without it
};

struct Block {
  Dim3 index;
  unsigned serial = 0;  // the n-th block of the grid to start
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned alive = 0, unstarted = 0;
  NamedBarrier barriers[16];
  int vote_result = 0;
  std::unique_ptr<unsigned char[]> arena;
  unsigned char* shared = nullptr;  // aligned begin of the arena
  std::size_t shared_used = 0;
  std::vector<SharedRegion> regions;
  std::vector<SharedGuard> guards;
  std::vector<Mbarrier> mbarriers;
  race::BlockClock clock;
};

/// Room for 228 KiB, the most that a block can have, and the guard gaps.
constexpr std::size_t kSharedArena = std::size_t{512} << 10;

struct Grid {
  const LaunchConfig* config = nullptr;
  const KernelCall* call = nullptr;
  void* arguments = nullptr;
  std::uint64_t serial = 0;
  unsigned n_threads = 0;  // of a block
  Random random{1};
};

extern Grid grid;
/// The running thread; null outside of kernels.
extern Thread* current;

/// Blocks the running thread until wake(). `what` is for the message of a deadlock.
void wait_here(const char* what, std::uint32_t mask = 0);
void wake(Thread& thread);
/// Lets other threads run first.
void yield_here();

// Called at the start and end of blocks and threads.
void begin_shared_memory(Block& block);
/// Faults where a guard gap was written.
void check_shared_guards(const Block& block);
/// Fault where copies are still in flight.
void end_thread_copies(Thread& thread);
void end_block_copies(const Block& block);
/// Faults unless the bytes lie in one region of the running block's shared memory.
void check_shared_range(const void* p, std::size_t bytes, const char* operation);
/// Checks the redzones of device memory. Returns a description of the first damage, or an empty string.
std::string check_redzones();

std::string describe(const Thread& thread);

}  // namespace cria::cuda::emulation
