// Named barriers, and programmatic dependent launch.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

/// Waits at barrier `id` (1 to 15; 0 belongs to __syncthreads) for `threads` threads, a multiple of 32, in
/// whole warps.
CRIA_DEVICE void barrier_sync(int id, int threads) {
#ifdef CRIA_CUDA_EMULATED
  emulation::named_barrier(id, threads, true);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
/// Arrives at the barrier without waiting; counts as one of `threads`.
CRIA_DEVICE void barrier_arrive(int id, int threads) {
#ifdef CRIA_CUDA_EMULATED
  emulation::named_barrier(id, threads, false);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

/// In a kernel launched with overlaps_previous: waits until the previous kernel has ended. Before sm_90 it
/// always has.
CRIA_DEVICE void grid_dependency_wait() {
#if !defined(CRIA_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel begin, once every block has called this or ended.
CRIA_DEVICE void grid_launch_dependents() {
#if !defined(CRIA_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace cria::cuda
