// Tensor cores: matrix products by a whole warp.
//
// Fragments of m16n8k16 (16-bit types), with g = lane / 4 and t = lane % 4; each register holds two elements:
//   A [16, 16]: a0 = (g, 2t), a1 = (g + 8, 2t), a2 = (g, 2t + 8), a3 = (g + 8, 2t + 8)
//   B [16, 8]:  b0 = (2t, g) and (2t + 1, g), b1 = (2t + 8, g) and (2t + 9, g)
//   C [16, 8]:  c0, c1 = (g, 2t), (g, 2t + 1); c2, c3 = the same of row g + 8
// and of m16n8k32 (bytes), four elements per register: A as above with 4t and 16 for 2t and 8, B likewise, C
// the same.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx_convert.cuh"
#include "kernels/cuda/ptx_copy.cuh"

namespace cria::cuda {

// ---- loads of 8x8 matrices of 16-bit values from shared memory ----
//
// Lane i's `row` is the address (16-byte aligned) of row i % 8 of matrix i / 8. In each matrix lane i
// receives elements 2 * (i % 4) and the next of row i / 4; transposed, of column i / 4.

CRIA_DEVICE void load_matrix_x4(uint32_t (&out)[4], const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(out, 4, row, false);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
#endif
}
CRIA_DEVICE void load_matrix_x4_transposed(uint32_t (&out)[4], const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(out, 4, row, true);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
#endif
}
CRIA_DEVICE void load_matrix_x2(uint32_t (&out)[2], const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(out, 2, row, false);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(shared_address(row))
               : "memory");
#endif
}
CRIA_DEVICE void load_matrix_x2_transposed(uint32_t (&out)[2], const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(out, 2, row, true);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(shared_address(row))
               : "memory");
#endif
}
CRIA_DEVICE void load_matrix_x1(uint32_t& out, const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(&out, 1, row, false);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(out)
               : "r"(shared_address(row))
               : "memory");
#endif
}
CRIA_DEVICE void load_matrix_x1_transposed(uint32_t& out, const void* row) {
#ifdef CRIA_CUDA_EMULATED
  emulation::load_matrix(&out, 1, row, true);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(out)
               : "r"(shared_address(row))
               : "memory");
#endif
}

// ---- c += a * b. Products are exact; how the hardware rounds the sum of sixteen and c is undocumented ----

CRIA_DEVICE void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CRIA_CUDA_EMULATED)
  emulation::mma_16x8x16(c, a, b, false);
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

/// Before sm_80, which has no such tensor cores, by shuffles: correct but slow.
CRIA_DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CRIA_CUDA_EMULATED)
  emulation::mma_16x8x16(c, a, b, true);
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  const int lane = lane_in_warp(), g = lane / 4, t = lane % 4;
  for (int k = 0; k < 16; k += 2) {
    const int from = k / 2 % 4;  // the lane with columns k, k + 1 of A's row and rows k, k + 1 of B's column
    const float2 low = unpack_bf16x2(__shfl_sync(kFullWarp, k < 8 ? a[0] : a[2], g * 4 + from));
    const float2 high = unpack_bf16x2(__shfl_sync(kFullWarp, k < 8 ? a[1] : a[3], g * 4 + from));
    const float2 left = unpack_bf16x2(__shfl_sync(kFullWarp, k < 8 ? b[0] : b[1], 2 * t * 4 + from));
    const float2 right = unpack_bf16x2(__shfl_sync(kFullWarp, k < 8 ? b[0] : b[1], (2 * t + 1) * 4 + from));
    c[0] = fmaf(low.y, left.y, fmaf(low.x, left.x, c[0]));
    c[1] = fmaf(low.y, right.y, fmaf(low.x, right.x, c[1]));
    c[2] = fmaf(high.y, left.y, fmaf(high.x, left.x, c[2]));
    c[3] = fmaf(high.y, right.y, fmaf(high.x, right.x, c[3]));
  }
#endif
}

/// Signed bytes, exact.
CRIA_DEVICE void mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CRIA_CUDA_EMULATED)
  emulation::mma_16x8x32(c, a, b);
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; half++)  // of the columns of A
    for (int row = 0; row < 2; row++)   // upper and lower eight rows
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                   : "+r"(c[2 * row]), "+r"(c[2 * row + 1])
                   : "r"(a[2 * half + row]), "r"(b[half]));
#endif
}

/// m16n8k16 of signed bytes: the first half of the columns of mma_s8.
CRIA_DEVICE void mma_s8_k16(int32_t (&c)[4], const uint32_t (&a)[2], uint32_t b) {
#if defined(CRIA_CUDA_EMULATED)
  const uint32_t wide_a[4] = {a[0], a[1], 0, 0}, wide_b[2] = {b, 0};
  emulation::mma_16x8x32(c, wide_a, wide_b);
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
#else
  for (int row = 0; row < 2; row++)
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(c[2 * row]), "+r"(c[2 * row + 1])
                 : "r"(a[row]), "r"(b));
#endif
}

}  // namespace cria::cuda
