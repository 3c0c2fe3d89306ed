// Asynchronous copies to shared memory.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

#ifndef CRIA_CUDA_EMULATED
/// A generic pointer as an address in shared memory.
CRIA_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// ---- cp.async (sm_80; plain synchronous copies before): per thread, in groups ----
//
//   for each stage: cp_async<16>(...) ...; cp_async_commit();
//   cp_async_wait<stages - 1>();   // this thread's oldest group has arrived
//   __syncthreads();               // and those of the other threads

/// Copies kBytes (4, 8 or 16; both addresses aligned to it) from global to shared memory. Where `valid` is
/// false, reads nothing and writes zeros.
template <int kBytes>
CRIA_DEVICE void cp_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(CRIA_CUDA_EMULATED)
  emulation::cp_async(shared, global, kBytes, valid);
#elif __CUDA_ARCH__ >= 800
  if constexpr (kBytes == 16)  // bypasses L1
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                 "n"(kBytes), "r"(valid ? kBytes : 0)
                 : "memory");
#else
  if constexpr (kBytes == 16)
    *static_cast<uint4*>(shared) = valid ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
  else if constexpr (kBytes == 8)
    *static_cast<uint2*>(shared) = valid ? *static_cast<const uint2*>(global) : make_uint2(0, 0);
  else
    *static_cast<uint32_t*>(shared) = valid ? *static_cast<const uint32_t*>(global) : 0;
#endif
}

CRIA_DEVICE void cp_async_commit() {
#if defined(CRIA_CUDA_EMULATED)
  emulation::cp_async_commit();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most kPending of this thread's latest groups are in flight. This thread sees the data at
/// once, others after a barrier.
template <int kPending>
CRIA_DEVICE void cp_async_wait() {
#if defined(CRIA_CUDA_EMULATED)
  emulation::cp_async_wait(kPending);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

#if defined(CRIA_CUDA_EMULATED) || __CUDA_ARCH__ >= 800
#define CRIA_HAS_MBARRIER 1
#endif
#if defined(CRIA_CUDA_EMULATED) || __CUDA_ARCH__ >= 900
#define CRIA_HAS_BULK_COPY 1
#endif

#ifdef CRIA_HAS_MBARRIER
// ---- mbarrier (sm_80): a barrier object of 8 bytes in shared memory. A phase completes when all arrivals
// and all expected bytes are in. Phases alternate between parity 0 and 1, starting with 0. ----

/// Called by one thread, then mbarrier_fence_init() and a __syncthreads before any use.
CRIA_DEVICE void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
#ifdef CRIA_CUDA_EMULATED
  emulation::mbarrier_init(barrier, arrivals);
#else
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#endif
}
CRIA_DEVICE void mbarrier_arrive(uint64_t* barrier) {
#ifdef CRIA_CUDA_EMULATED
  emulation::mbarrier_arrive(barrier, 0);
#else
  asm volatile(
      "{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(shared_address(barrier))
      : "memory");
#endif
}
/// Whether the phase of this parity has completed. May wait for a while, and may return false early.
CRIA_DEVICE bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
#if defined(CRIA_CUDA_EMULATED)
  return emulation::mbarrier_try_wait(barrier, parity);
#elif __CUDA_ARCH__ >= 900
  uint32_t done;
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
#else
  uint32_t done;
  asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
               : "=r"(done)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return done != 0;
#endif
}
/// Waits until the phase of this parity has completed.
CRIA_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}
/// Arrives when all cp.async of this thread so far have completed.
CRIA_DEVICE void cp_async_mbarrier_arrive(uint64_t* barrier) {
#ifdef CRIA_CUDA_EMULATED
  emulation::cp_async_mbarrier_arrive(barrier);
#else
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
#endif  // CRIA_HAS_MBARRIER

#ifdef CRIA_HAS_BULK_COPY
// ---- bulk copies (sm_90): one thread copies for the block, and an mbarrier counts the bytes ----

/// After mbarrier_init: makes the barrier visible to the copy engine.
CRIA_DEVICE void mbarrier_fence_init() {
#ifndef CRIA_CUDA_EMULATED
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/// Arrives and expects bytes, which the phase then also waits for.
CRIA_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
#ifdef CRIA_CUDA_EMULATED
  emulation::mbarrier_arrive(barrier, bytes);
#else
  asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}" ::"r"(
                   shared_address(barrier)),
               "r"(bytes)
               : "memory");
#endif
}
/// Copies `bytes` from global to shared memory and counts them at the barrier. All three are multiples of 16.
CRIA_DEVICE void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
#ifdef CRIA_CUDA_EMULATED
  emulation::bulk_copy(shared, global, bytes, barrier);
#else
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#endif
}
/// Orders a thread's ordinary accesses to shared memory before a bulk copy or wgmma of the same bytes.
CRIA_DEVICE void fence_async_proxy() {
#ifndef CRIA_CUDA_EMULATED
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#endif  // CRIA_HAS_BULK_COPY

}  // namespace cria::cuda
