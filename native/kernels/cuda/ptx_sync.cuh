// Barriers for parts of a block, and the order of whole kernels.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

/// Barrier `id` (1 to 15; 0 is __syncthreads's) for `threads`, a multiple of 32: whole warps come to it.
CRIA_DEVICE void barrier_sync(int id, int threads) {
#ifdef CRIA_CUDA_EMULATED
  emulation::named_barrier(id, threads, true);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
/// Arrives without waiting; counts among `threads`.
CRIA_DEVICE void barrier_arrive(int id, int threads) {
#ifdef CRIA_CUDA_EMULATED
  emulation::named_barrier(id, threads, false);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

/// In a kernel launched with overlaps_previous: until the previous kernel has ended. Before sm_90 it has.
CRIA_DEVICE void grid_dependency_wait() {
#if !defined(CRIA_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The next kernel may begin (as soon as every block has said so or ended).
CRIA_DEVICE void grid_launch_dependents() {
#if !defined(CRIA_CUDA_EMULATED) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace cria::cuda
