// Copies to shared memory that go on while the thread does something else.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

#ifndef CRIA_CUDA_EMULATED
/// The address within shared memory that instructions want.
CRIA_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// ---- cp.async (sm_80; before, plain copies at once): by a thread, in groups ----
//
//   for each stage: cp_async<16>(...) ...; cp_async_commit();
//   cp_async_wait<stages - 1>();   // this thread's oldest group has arrived
//   __syncthreads();               // so have the others'

/// kBytes (4, 8 or 16; both addresses aligned to it) from global to shared memory. Where `valid` is false
/// nothing is read and zeros are written.
template <int kBytes>
CRIA_DEVICE void cp_async(void* shared, const void* global, bool valid = true) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(CRIA_CUDA_EMULATED)
  emulation::cp_async(shared, global, kBytes, valid);
#elif __CUDA_ARCH__ >= 800
  if constexpr (kBytes == 16)  // past L1
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

/// Until at most kPending of this thread's latest groups are under way. The data is there for this thread;
/// for others after a barrier.
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
// ---- mbarrier (sm_80): a barrier object in shared memory, 8 bytes; a phase ends when all arrivals (and all
// bytes that were announced) are there. Phases alternate between parity 0 and 1, beginning with 0. ----

/// By one thread; then mbarrier_fence_init() and a __syncthreads before anyone uses it.
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
/// Whether the phase of this parity has ended; may wait a while, and may give up early.
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
/// Until the phase of this parity has ended.
CRIA_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}
/// An arrival that happens when all cp.async of this thread so far have arrived.
CRIA_DEVICE void cp_async_mbarrier_arrive(uint64_t* barrier) {
#ifdef CRIA_CUDA_EMULATED
  emulation::cp_async_mbarrier_arrive(barrier);
#else
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
#endif  // CRIA_HAS_MBARRIER

#ifdef CRIA_HAS_BULK_COPY
// ---- bulk copies (sm_90): by one thread for the block, counted in bytes by an mbarrier ----

/// After mbarrier_init: makes it visible to the copy engine.
CRIA_DEVICE void mbarrier_fence_init() {
#ifndef CRIA_CUDA_EMULATED
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/// An arrival that announces bytes: the phase ends when they are there too.
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
/// `bytes` (a multiple of 16, as both addresses) from global to shared memory; the barrier counts them.
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
/// Between a thread's ordinary accesses to shared memory and a bulk copy or wgmma that touches the same.
CRIA_DEVICE void fence_async_proxy() {
#ifndef CRIA_CUDA_EMULATED
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#endif  // CRIA_HAS_BULK_COPY

}  // namespace cria::cuda
