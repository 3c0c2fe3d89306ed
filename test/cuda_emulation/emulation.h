// What a kernel sees of CUDA when the host compiler compiles it: the names of CUDA C++, and the emulator's
// entries behind device.cuh and ptx.cuh. Included by device.cuh alone. Needs nothing of the CUDA toolkit.
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

// Parts of the emulator must not be seen by the race detector's instrumentation.
#define CRIA_NO_RACE_CHECK __attribute__((no_sanitize("thread")))

namespace cria::cuda::emulation {

struct Coordinates {
  Dim3 thread, block, block_size, grid_size;
};

/// Of the running thread. Within a thread they never change, whatever other threads run between two uses.
__attribute__((const)) const Coordinates& coordinates();

/// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fault(const char* format, ...);

// ---- shared memory ----

void guard_shared(void* guard, size_t bytes);
[[noreturn]] void shared_index_out_of_bounds(int index, int size);
void* static_shared(const void* key, size_t bytes, size_t alignment, void (*construct)(void*));
void* dynamic_shared(size_t offset, size_t bytes, size_t used, size_t alignment);

// ---- meeting points ----

/// Lanes of a warp that meet: `run` is called once, when the last lane of `mask` is there, with what each
/// lane brought (null for lanes outside the mask).
using Meeting = void (*)(void* const lanes[32], uint32_t mask);
void meet_warp(uint32_t mask, const char* operation, void* mine, Meeting run);
/// __syncwarp: the one collective that orders memory.
void sync_warp(uint32_t mask);

enum class Vote { none, any, all, count };
int sync_block(Vote vote, int predicate);
/// bar.sync and bar.arrive on barrier `id` (0 is __syncthreads's own).
void named_barrier(int id, int threads, bool waits);

/// The lane's value of a collective is read by others while it waits.
struct ShuffleLane {
  uint64_t value;
  int source;  // lane to read
  int width;
};
void shuffle(uint32_t mask, ShuffleLane* lane, const char* operation);
int lane_of_warp();

// ---- memory order ----

enum class Scope { block, device, system };
void fence(Scope scope);
/// Around each atomic operation: the race detector's view of it.
void atomic_access(const void* address, size_t bytes, bool writes);
/// Lets other threads and blocks run: for loops that wait on memory.
void give_way();

}  // namespace cria::cuda::emulation

#define threadIdx (::cria::cuda::emulation::coordinates().thread)
#define blockIdx (::cria::cuda::emulation::coordinates().block)
#define blockDim (::cria::cuda::emulation::coordinates().block_size)
#define gridDim (::cria::cuda::emulation::coordinates().grid_size)

#include <cuda_emulation/builtins.h>
#include <cuda_emulation/ptx_twins.h>
