// The race detector: vector clocks, and the last accesses of each byte.
//
// One access happens before another when a chain of barriers, __syncwarp, fences with atomics, mbarriers or
// kernel ends leads from the first to the second; other warp collectives order nothing. A race is two
// unordered accesses of different threads to one byte, at least one of them a write and at least one not
// atomic.
//
// Kernels compiled with -fsanitize=thread call the hooks of race_hooks.cc at every access; libtsan is not
// linked. The same hooks report accesses outside of allocations when they happen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_emulation/emulation.h"

namespace cria::cuda::emulation {

struct Block;
struct Thread;

namespace race {

/// Set by race_hooks.cc in programs that link it.
extern bool enabled;
/// Return address of the instrumented access; null for the emulator's own accesses.
extern const void* program_counter;

/// A vector clock: for each thread of a block, the epoch up to which its accesses are known.
using Clock = std::vector<std::uint32_t>;
/// Clocks of other blocks, by BlockClock::number.
using ForeignClocks = std::map<std::uint32_t, Clock>;

struct Knowledge {
  Clock own;  // empty: only what the whole block knows
  ForeignClocks foreign;
};

struct ThreadClock {
  std::uint32_t epoch = 1;
  Knowledge known;
  // A fence fills to_release, which the next atomic publishes, and takes over to_acquire, which earlier
  // atomics filled. [0] is of device scope, [1] of block scope.
  std::unique_ptr<Knowledge> to_release[2], to_acquire[2];
};

struct BlockClock {
  std::uint32_t number = 0;  // unique over all grids
  Clock base;                // what every thread of the block knows of the others
  ForeignClocks foreign;
  std::vector<ThreadClock> threads;
};

void begin_grid();
void begin_block(Block& block);
/// The threads have synchronized: accesses of each before happen before accesses of any after.
void joined(Thread* const* threads, std::size_t n);
/// All threads of the block have synchronized.
void joined_block(Block& block);
/// Release and acquire through an object.
void release(Thread& thread, const void* object);
void acquire(Thread& thread, const void* object);
void forget(const void* object);
/// Forgets earlier accesses of these bytes.
void untouched(const void* address, std::size_t bytes);
void fence(Thread& thread, Scope scope);
/// Checks and records an access. Faults on a race or out of bounds.
void access(Thread& thread, const void* address, std::size_t bytes, bool writes, bool atomic = false);

}  // namespace race
}  // namespace cria::cuda::emulation
