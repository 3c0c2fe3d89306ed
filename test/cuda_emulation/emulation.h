// CUDA C++ for the host compiler: its names, and the emulator's functions behind device.cuh and ptx.cuh.
// Included by device.cuh alone. Needs no part of the CUDA toolkit.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <bit>
#include <new>
#include <type_traits>

#include "kernels/cuda/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

// Keeps parts of the emulator out of the race detector's instrumentation.
#define CRIA_NO_RACE_CHECK __attribute__((no_sanitize("thread")))

namespace cria::cuda::emulation {

struct Coordinates {
  Dim3 thread, block, block_size, grid_size;
};

/// Coordinates of the running thread. Constant within a thread, whatever other threads run between two uses.
__attribute__((const)) const Coordinates& coordinates();

/// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fault(const char* format, ...);

// ---- shared memory ----

void guard_shared(void* guard, size_t bytes);
[[noreturn]] void shared_index_out_of_bounds(int index, int size);
void* static_shared(const void* key, size_t bytes, size_t alignment, void (*construct)(void*));
void* dynamic_shared(size_t offset, size_t bytes, size_t used, size_t alignment);

// ---- barriers and collectives ----

/// A collective of a warp: `run` is called once, when the last lane of `mask` has arrived, with each lane's
/// argument (null for lanes outside the mask).
using Collective = void (*)(void* const lanes[32], uint32_t mask);
void warp_collective(uint32_t mask, const char* operation, void* argument, Collective run);
/// __syncwarp: the only collective that orders memory.
void sync_warp(uint32_t mask);

enum class Vote { none, any, all, count };
int sync_block(Vote vote, int predicate);
/// bar.sync and bar.arrive on barrier `id` (0 is __syncthreads's own).
void named_barrier(int id, int threads, bool waits);

/// A lane's part of a shuffle. Other lanes read `value` while this one waits; `source` is the lane it reads.
struct ShuffleLane {
  uint64_t value;
  int source;
  int width;
};
void shuffle(uint32_t mask, ShuffleLane* lane, const char* operation);
int lane_of_warp();

// ---- memory order ----

enum class Scope { block, device, system };
void fence(Scope scope);
/// Reports an atomic operation to the race detector.
void atomic_access(const void* address, size_t bytes, bool writes);
/// Lets other threads and blocks run: called in loops that poll memory.
void yield();

}  // namespace cria::cuda::emulation

#define threadIdx (::cria::cuda::emulation::coordinates().thread)
#define blockIdx (::cria::cuda::emulation::coordinates().block)
#define blockDim (::cria::cuda::emulation::coordinates().block_size)
#define gridDim (::cria::cuda::emulation::coordinates().grid_size)

#include <cuda_emulation/builtins.h>
#include <cuda_emulation/ptx_twins.h>
