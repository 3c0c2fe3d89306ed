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
  const char* waits_for = "";  // for reports
  std::uint32_t waits_mask = 0;
  AsyncCopies copies;

  unsigned lane() const { return linear % 32; }
  unsigned warp() const { return linear / 32; }
};

/// A collective of a warp that not all of its lanes have reached.
struct PendingMeeting {
  std::uint32_t mask = 0, arrived = 0;  // mask 0: free
  const char* operation = nullptr;
  void* lanes[32];
};

struct Warp {
  PendingMeeting meetings[4];
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
  const void* key;     // static: the struct's; dynamic: null
  std::size_t offset;  // dynamic: as the kernel counts
  std::size_t bytes;   // as the kernel counts
  unsigned char* at;
  std::size_t usable;  // without what alignment adds
};

struct Block {
  Dim3 index;
  unsigned serial = 0;  // among the grid's blocks, in the order of their start
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

constexpr std::size_t kSharedArena = std::size_t{512} << 10;  // 228 KiB at most, and the gaps

struct Grid {
  const LaunchConfig* config = nullptr;
  const KernelCall* call = nullptr;
  void* arguments = nullptr;
  std::uint64_t serial = 0;
  unsigned n_threads = 0;  // of a block
  Random random{1};
};

extern Grid grid;
extern Thread* current;  // the running thread, null outside of kernels

/// Lets others run until wake(); `what` is for the report of a deadlock.
void wait_here(const char* what, std::uint32_t mask = 0);
void wake(Thread& thread);
/// As wake(), and later lets this thread go on too.
void yield_here();

// What the parts do at the begin and end of blocks and threads.
void begin_shared_memory(Block& block);
void check_shared_guards(const Block& block);  // faults
void end_thread_copies(Thread& thread);        // faults when some are under way
void end_block_copies(const Block& block);     // likewise
/// Faults unless the bytes lie in one region of the running block's shared memory.
void check_shared_range(const void* p, std::size_t bytes, const char* operation);
/// Device memory's redzones; the first damage found, or an empty text.
std::string check_redzones();

std::string describe(const Thread& thread);

}  // namespace cria::cuda::emulation
