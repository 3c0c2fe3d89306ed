// Included by every kernel source. The same .cu files are compiled twice: by nvcc for GPUs, and by the host
// compiler against test/cuda_emulation, which runs them on any machine and finds races, missing barriers and
// waits, and accesses out of bounds. How to write a kernel that both compilers accept:
//
//   struct RmsNormShared {             // static shared memory: one struct per kernel,
//     SharedArray<float, 8> sums;      // of SharedArrays and scalars
//   };
//   static __global__ void rms_norm_kernel(const float* x, float* out, int n) {
//     RmsNormShared& shared = shared_memory<RmsNormShared>();
//     ...
//   }
//   void rms_norm(const float* x, float* out, int rows, int n, Stream stream) {   // declared in rmsnorm.h
//     launch({.name = "rms_norm", .grid = {unsigned(rows)}, .block = {256}, .stream = stream},
//            rms_norm_kernel, x, out, n);
//   }
//
// - Kernels are `static __global__` functions in namespace cria::cuda; their helper functions are
// CRIA_DEVICE.
//   Names are unique in the namespace.
// - Shared memory comes from shared_memory<Struct>() or, sized at launch, from DynamicShared. Never
//   __shared__.
// - threadIdx, blockIdx, blockDim, gridDim, __syncthreads (and _or, _and, _count), __syncwarp, __shfl_*_sync,
//   __ballot_sync, __any_sync, __all_sync, __match_*_sync, atomicAdd/Max/Min/Exch/CAS/Or, __threadfence,
//   __ldg, __popc, __clz, __ffs, __byte_perm, fmaf, sqrtf, fmaxf, fminf, min, max, uint4, float4 and the like
//   are CUDA's own. Every other instruction has a function in ptx.cuh, the only place with inline asm.
// - Masks of warp collectives are explicit (kFullWarp, or a computed one): no __activemask().
// - No static or constant device variables, no printf, no assert, no recursion, no C++ library, no
//   exceptions.
// - Multiplication and addition are fused only where the source says fmaf (nvcc -fmad=false): the order of
//   summation is a contract (docs/numerics.md). No fast-math intrinsics except those of ptx.cuh.
// - f16 and bf16 are uint16_t, pairs of them uint32_t with the lower element in the lower half. Load wide: 16
//   bytes.
// - No thread returns before a __syncthreads or collective that expects it: let it idle instead.
// - A kernel is correct for any order of blocks and of warps.
// - Shuffles, votes and mma order no memory; __syncwarp and __syncthreads do. Between blocks: write,
//   __syncthreads, then one thread does __threadfence, atomicAdd on a counter and __threadfence, and after
//   another __syncthreads its block may read what the others wrote. The last block resets the counter.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/host_device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/runtime.h"

#ifdef CRIA_CUDA_EMULATED
#include <cuda_emulation/emulation.h>

#include "core/float_bits.h"
#define CRIA_DEVICE inline
#else
#include <cuda_runtime.h>
#define CRIA_DEVICE __device__ __forceinline__
#endif

namespace cria::cuda {

constexpr int kWarpSize = 32;
constexpr uint32_t kFullWarp = 0xffffffffu;
constexpr int kCudaPageTokens = 64;  // tokens of a KV page

// ---- shared memory ----

/// An array in a kernel's shared struct. The emulator checks every index, fills the array with NaN and puts a
/// guard gap behind it; on a device it is a plain array.
template <class T, int N>
struct alignas(16) SharedArray {
#ifdef CRIA_CUDA_EMULATED
  SharedArray() { emulation::guard_shared(guard_, sizeof guard_); }
  T& operator[](int i) {
    if (static_cast<unsigned>(i) >= static_cast<unsigned>(N)) emulation::shared_index_out_of_bounds(i, N);
    return values_[i];
  }
  T* data() { return values_; }
#else
  __device__ T& operator[](int i) { return values_[i]; }
  __device__ T* data() { return values_; }
#endif
  static constexpr int size() { return N; }

 private:
  T values_[N];
#ifdef CRIA_CUDA_EMULATED
  unsigned char guard_[64];
#endif
};

/// The block's static shared memory: the same object at each call with the same struct.
template <class Storage>
CRIA_DEVICE Storage& shared_memory() {
#ifdef CRIA_CUDA_EMULATED
  static const char key = 0;
  return *static_cast<Storage*>(
      emulation::static_shared(&key, sizeof(Storage), alignof(Storage), [](void* at) { new (at) Storage; }));
#else
  __shared__ Storage storage;
  return storage;
#endif
}

/// Bytes of a launch's dynamic_shared that DynamicShared::take<T>(count) uses.
template <class T>
CRIA_HOST_DEVICE constexpr size_t shared_bytes(size_t count, size_t alignment = 16) {
  return (count * sizeof(T) + alignment - 1) / alignment * alignment;
}

/// Carves arrays out of a launch's dynamic shared memory, in every thread alike. Larger alignments first.
class DynamicShared {
 public:
  template <class T>
  CRIA_DEVICE T* take(size_t count, size_t alignment = 16) {
    const size_t bytes = shared_bytes<T>(count, alignment);
#ifdef CRIA_CUDA_EMULATED
    void* at = emulation::dynamic_shared(used_, bytes, count * sizeof(T), alignment);
#else
    extern __shared__ __align__(1024) unsigned char cria_dynamic_shared[];
    void* at = cria_dynamic_shared + used_;
#endif
    used_ += bytes;
    return static_cast<T*>(at);
  }

 private:
  size_t used_ = 0;
};

// ---- threads ----

CRIA_DEVICE int thread_in_block() { return static_cast<int>(threadIdx.x); }
CRIA_DEVICE int lane_in_warp() { return static_cast<int>(threadIdx.x) & (kWarpSize - 1); }
CRIA_DEVICE int warp_in_block() { return static_cast<int>(threadIdx.x) / kWarpSize; }

/// The sum over the warp, in every lane, by a fixed tree: lanes i and i ^ 16, then 8, 4, 2, 1.
CRIA_DEVICE float warp_sum(float x) {
#ifdef CRIA_CUDA_EMULATED  // the same tree in one collective instead of five
  return emulation::reduce_float(x, emulation::Reduction::add);
#else
  for (int step = 16; step; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
#endif
}
CRIA_DEVICE float warp_max(float x) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::reduce_float(x, emulation::Reduction::max);
#else
  for (int step = 16; step; step /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, step));
  return x;
#endif
}

template <int kWarps>
struct BlockSumShared {
  SharedArray<float, kWarps> warps;
};

/// The sum over a block of kWarps warps, in every thread: warp_sum, then the warps in order. Two barriers;
/// the shared memory is free again on return.
template <int kWarps>
CRIA_DEVICE float block_sum(float x, BlockSumShared<kWarps>& shared) {
  x = warp_sum(x);
  if (lane_in_warp() == 0) shared.warps[warp_in_block()] = x;
  __syncthreads();
  float sum = shared.warps[0];
  for (int w = 1; w < kWarps; w++) sum += shared.warps[w];
  __syncthreads();
  return sum;
}

// ---- bits and narrow floats ----

CRIA_DEVICE uint32_t bits_of(float x) {
#ifdef CRIA_CUDA_EMULATED
  return float_bits(x);
#else
  return __float_as_uint(x);
#endif
}
CRIA_DEVICE float float_of_bits(uint32_t bits) {
#ifdef CRIA_CUDA_EMULATED
  return float_from_bits(bits);
#else
  return __uint_as_float(bits);
#endif
}

}  // namespace cria::cuda
