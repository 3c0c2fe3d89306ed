// Software twins of the instructions in ptx_*.cuh.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace cria::cuda::emulation {

uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c);
int32_t dp4a(uint32_t a, uint32_t b, int32_t c, bool a_signed);

void check_aligned(const void* p, size_t alignment, const char* operation);
void prefetch(const void* p, size_t bytes);
uint32_t load_acquire(const uint32_t* p);
void store_release(uint32_t* p, uint32_t value);
uint32_t add_acquire_release(uint32_t* p, uint32_t value);

void cp_async(void* shared, const void* global, int bytes, bool valid);
void cp_async_commit();
void cp_async_wait(int pending);
void mbarrier_init(uint64_t* barrier, uint32_t arrivals);
void mbarrier_arrive(uint64_t* barrier, uint32_t expected_bytes);
bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity);
void cp_async_mbarrier_arrive(uint64_t* barrier);
void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);

void load_matrix(uint32_t* out, int matrices, const void* row, bool transposed);
void mma_16x8x16(float* c, const uint32_t* a, const uint32_t* b, bool bf16);
void mma_16x8x32(int32_t* c, const uint32_t* a, const uint32_t* b);

}  // namespace cria::cuda::emulation
