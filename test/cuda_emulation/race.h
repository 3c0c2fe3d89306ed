// The race detector's view of a running grid: vector clocks, and who last touched each byte.
//
// An access is ordered before another when a chain of barriers, __syncwarp, fences with atomics, mbarriers or
// kernel ends leads from one to the other; warp collectives other than __syncwarp order nothing. Two accesses
// of different threads to one byte, not ordered, one of them a write, not both atomic, are a race.
//
// Kernels compiled with -fsanitize=thread call the hooks of race_hooks.cc at every access; libtsan is not
// linked. The same hooks find accesses outside of allocations, at once and by the thread that makes them.
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

/// Set by race_hooks.cc where it is linked in.
extern bool enabled;
/// Where the instrumented access is that is being looked at; null for
/// accesses that the emulator makes itself.
extern const void* program_counter;

using Clock = std::vector<std::uint32_t>;              // by thread of a block: all before this epoch is known
using ForeignClocks = std::map<std::uint32_t, Clock>;  // of other blocks, by their number

struct Knowledge {
  Clock own;  // empty: only what the whole block knows
  ForeignClocks foreign;
};

struct ThreadClock {
  std::uint32_t epoch = 1;
  Knowledge known;
  // By a fence: what the next atomic hands over, and what atomics brought that the next fence takes.
  std::unique_ptr<Knowledge> to_release[2], to_acquire[2];  // [0] for all blocks, [1] for this block
};

struct BlockClock {
  std::uint32_t number = 0;  // never used twice
  Clock base;                // what every thread of the block knows of the others
  ForeignClocks foreign;
  std::vector<ThreadClock> threads;
};

void begin_grid();
void begin_block(Block& block);
/// The threads have met: what each did before is ordered before what any does after.
void joined(Thread* const* threads, std::size_t n);
/// All threads of the block have met.
void joined_block(Block& block);
/// An object through which a thread hands over what it did (release), and another takes it (acquire).
void release(Thread& thread, const void* object);
void acquire(Thread& thread, const void* object);
void forget(const void* object);
/// As if nobody had accessed these bytes.
void untouched(const void* address, std::size_t bytes);
void fence(Thread& thread, Scope scope);
/// An access of the thread, checked and noted. Faults.
void access(Thread& thread, const void* address, std::size_t bytes, bool writes, bool atomic = false);

}  // namespace race
}  // namespace cria::cuda::emulation
