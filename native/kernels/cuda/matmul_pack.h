// How weights and activations lie in device memory. Plain constants, for the repacking on the host and for
// the kernels.
//
// A matrix is tiles of 16 rows; a tile is chunks of 256 columns (float types: 64), a chunk is one contiguous
// piece: quants first, then scales. Missing rows and columns are zeros. Quants lie in the order in which
// lanes hold the A operand of mma (ptx_matrix.cuh), so a lane's 16 bytes are one load, 32 lanes' are 512
// contiguous bytes, and a lane needs nothing from any other, in global memory as in shared memory.
//
// With g = row % 8, upper = row / 8, and for bytes k = column % 32, t = k % 16 / 4: lane = 4g + t, register =
// upper + 2 * (k / 16), byte = k % 4. "Group" is 32 columns, "pair" 64: chunk column / 64.
//
//   form     of the types        quants of a chunk                                        then, for each row
//   f32      F32                 row, lane l of 16, columns l, l + 16, l + 32, l + 48
//   f16,bf16 F16, BF16           steps of 16 columns, lane, register (m16n8k16)
//   q8       Q8_0 Q5_0 IQ4_NL    group, lane, register                                    8 x d f16
//   q8_min   Q4_1 Q5_1           the same, unsigned                                       8 x d, later 8 x m
//   q4       Q4_0                pair, lane, register: nibbles, the pair's first group low
//                                four-bit two's complement                                8 x d f16
//   k8       Q3_K IQ4_XS         as q8                                                    16 x int8, later d
//   k8_min   Q2_K                as q8, unsigned                                          16 x scale, later
//                                                                                         16 x min, later d,
//                                                                                         dmin
//   k4       Q4_K                as q4, unsigned              d, dmin and the file's 12 bytes of scales: 16
//   bytes k5       Q5_K                as q4 for the low four bits; then lane, pair: a word with bit 8 * byte
//   + 2 *
//                                register + (group % 2) the fifth                         as k4
//   k6       Q6_K                as q4 for the low four bits of the six-bit two's complement; then pair / 2,
//                                lane, pair % 2, group % 2: a word with bits 8 * byte + 2 * register and the
//                                next the upper two                                            as k8
//
// Activations, tokens one after the other, each in chunks too. Bytes: 16-byte units 4 * pair + t, of the
// pair's first and then second group columns 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3: what a lane holds of B.
// 16-bit floats: units 4 * (step / 2) + t, of both steps columns 2t, 2t + 1, 2t + 8, 2t + 9. F32 as the
// weights.
#pragma once

#include <stdint.h>

#include "core/dtype.h"

#ifndef CRIA_BOTH_SIDES
#ifdef __CUDACC__
#define CRIA_BOTH_SIDES __host__ __device__
#else
#define CRIA_BOTH_SIDES
#endif
#endif

namespace cria::cuda {

enum class WeightForm : uint8_t { f32, f16, bf16, q8, q8_min, q4, k8, k8_min, k4, k5, k6 };

CRIA_BOTH_SIDES constexpr WeightForm weight_form(DType dtype) {
  switch (dtype) {
    case DType::f16: return WeightForm::f16;
    case DType::bf16: return WeightForm::bf16;
    case DType::q8_0:
    case DType::q5_0:
    case DType::iq4_nl: return WeightForm::q8;
    case DType::q4_1:
    case DType::q5_1: return WeightForm::q8_min;
    case DType::q4_0: return WeightForm::q4;
    case DType::q3_k:
    case DType::iq4_xs: return WeightForm::k8;
    case DType::q2_k: return WeightForm::k8_min;
    case DType::q4_k: return WeightForm::k4;
    case DType::q5_k: return WeightForm::k5;
    case DType::q6_k: return WeightForm::k6;
    default: return WeightForm::f32;
  }
}

struct WeightLayout {
  int chunk_cols;
  int scales;  // where a row's scales begin: + row * scale_bytes
  int scale_bytes;
  int mins;    // q8_min: 16 bytes a row; k8_min: 16 bytes a row
  int blocks;  // k8, k8_min, k6: d (and dmin) of each row
  int chunk_bytes;
};

CRIA_BOTH_SIDES constexpr WeightLayout weight_layout(WeightForm form) {
  switch (form) {
    case WeightForm::f32: return {64, 0, 0, 0, 0, 4096};
    case WeightForm::f16:
    case WeightForm::bf16: return {64, 0, 0, 0, 0, 2048};
    case WeightForm::q8: return {256, 4096, 16, 0, 0, 4352};
    case WeightForm::q8_min: return {256, 4096, 16, 4352, 0, 4608};
    case WeightForm::q4: return {256, 2048, 16, 0, 0, 2304};
    case WeightForm::k8: return {256, 4096, 16, 0, 4352, 4384};
    case WeightForm::k8_min: return {256, 4096, 16, 4352, 4608, 4672};
    case WeightForm::k4: return {256, 2048, 16, 0, 0, 2304};
    case WeightForm::k5: return {256, 2560, 16, 0, 0, 2816};
    case WeightForm::k6: return {256, 3072, 16, 0, 3328, 3360};
  }
  return {};
}

CRIA_BOTH_SIDES constexpr int64_t chunks_of(WeightForm form, int64_t cols) {
  const int64_t chunk = weight_layout(form).chunk_cols;
  return (cols + chunk - 1) / chunk;
}

constexpr int kActivationChunkBytes = 256;  // of integers and F32; 16-bit floats 128
constexpr int kSumBytes = 32;  // q8_k, a chunk: for t the low seven bits of sums 4t .. 4t + 3, then the rest

}  // namespace cria::cuda
