// Loads, stores and atomics with cache hints or memory order.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

// ---- loads of global memory that is read-only during the kernel; addresses are aligned to the size ----

/// For data that is read once, such as weights: not kept in L1, fetched into L2 in 128-byte pieces.
CRIA_DEVICE uint4 load_streaming(const uint4* p) {
#ifdef CRIA_CUDA_EMULATED
  emulation::check_aligned(p, 16, "load_streaming");
  return *p;
#else
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
#endif
}
CRIA_DEVICE uint2 load_streaming(const uint2* p) {
#ifdef CRIA_CUDA_EMULATED
  emulation::check_aligned(p, 8, "load_streaming");
  return *p;
#else
  uint2 v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
  return v;
#endif
}
CRIA_DEVICE uint32_t load_streaming(const uint32_t* p) {
#ifdef CRIA_CUDA_EMULATED
  emulation::check_aligned(p, 4, "load_streaming");
  return *p;
#else
  uint32_t v;
  asm("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];" : "=r"(v) : "l"(p));
  return v;
#endif
}
/// For data that many threads read: kept in L1.
CRIA_DEVICE uint4 load_cached(const uint4* p) {
#ifdef CRIA_CUDA_EMULATED
  emulation::check_aligned(p, 16, "load_cached");
  return *p;
#else
  uint4 v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
#endif
}

/// Prefetches the cache line of a valid address.
CRIA_DEVICE void prefetch_l2(const void* p) {
#ifdef CRIA_CUDA_EMULATED
  emulation::prefetch(p, 1);
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#endif
}
/// Prefetches `bytes` from `p` on; both are multiples of 16. Does nothing before sm_90.
CRIA_DEVICE void prefetch_l2_bulk(const void* p, uint32_t bytes) {
#if defined(CRIA_CUDA_EMULATED)
  emulation::check_aligned(p, 16, "prefetch_l2_bulk");
  emulation::prefetch(p, bytes);
#elif __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes));
#else
  (void)p;
  (void)bytes;
#endif
}

// ---- signals between blocks. Everything that happened before a release is visible after an acquire of the
// value. A __syncthreads extends this to the block's other threads. ----

CRIA_DEVICE uint32_t load_acquire(const uint32_t* p) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::load_acquire(p);
#else
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
#endif
}
CRIA_DEVICE void store_release(uint32_t* p, uint32_t value) {
#ifdef CRIA_CUDA_EMULATED
  emulation::store_release(p, value);
#else
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
#endif
}
/// Atomic add, acquire and release; returns the old value.
CRIA_DEVICE uint32_t add_acquire_release(uint32_t* p, uint32_t value) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::add_acquire_release(p, value);
#else
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(p), "r"(value)
               : "memory");
  return before;
#endif
}

}  // namespace cria::cuda
