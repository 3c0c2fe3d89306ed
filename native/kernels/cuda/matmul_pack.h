// How weights and activations lie in device memory. Plain constants, for repacking on the host and for the
// kernels.
//
// A matrix is tiles of 16 rows; a tile is chunks of 256 columns (float types: 64), a chunk is one contiguous
// piece: quants first, then scales. Missing rows and columns are zeros. Quants lie in the order in which
// lanes hold the A operand of mma (ptx_matrix.cuh), so a lane's 16 bytes are one load, 32 lanes' are 512
// contiguous bytes, and a lane needs nothing from any other, in global memory as in shared memory.
//
// With g = row % 8, upper = row / 8, and for bytes k = column % 32, t = k % 16 / 4: lane = 4g + t, register =
// upper + 2 * (k / 16), byte = k % 4. "Group" is 32 columns, "pair" 64: chunk column / 64.
//
//   form      types              quants of a chunk                                   scales, for each row
//   f32       F32                row, lane l of 16, columns l, l + 16, l + 32, l + 48
//   f16, bf16 F16, BF16          steps of 16 columns, lane, register (m16n8k16)
//   q8        Q8_0 Q5_0 IQ4_NL   group, lane, register: signed bytes                 8 x d (f16)
//   q8_min    Q4_1 Q5_1          as q8, unsigned                                     8 x d; 8 x m
//   q4        Q4_0               pair, lane, register: nibbles (1)                   8 x d
//   s4        MXFP4 NVFP4        as q4: codes (6)                                    16 x d (7); book
//             Q1_0 Q2_0
//   k8        Q3_K               as q8                                               16 x int8; d
//   k8_min    Q2_K               as q8, unsigned                                     16 scales; 16 mins; (5)
//   k4        Q4_K               as q4, unsigned                                     16 bytes (2)
//   k5        Q5_K               as k4 for the low four bits; then the fifth (3)     16 bytes (2)
//   k6        Q6_K               as k4 for the low four bits; then the upper two (4) 16 x int8; d
//
//   c4        IQ* (not IQ4_NL)   as q4: codes (6)                                    16 x int8; d (f32); book
//             TQ1_0 TQ2_0
//
//   (1) of four-bit two's complement; the pair's first group in the lower ones
//   (2) d, dmin and the file's twelve bytes of scales
//   (3) lane, pair: a word with the bit at 8 * byte + 2 * register + group % 2
//   (4) of six-bit two's complement; pair / 2, lane, pair % 2, group % 2: a word with the bits at 8 * byte +
//       2 * register and the next
//   (5) d and dmin
//   (6) of the chunk's own codebook, sixteen int8: `book`
//   (7) f16, or bfloat16 where the word after the codebook is not zero (MXFP4)
//
// A semicolon: what follows begins after the last row's.
//
// Activations, tokens one after the other, each in chunks too. Bytes: 16-byte units 4 * pair + t, of the
// pair's first and then second group columns 4t .. 4t + 3 and 16 + 4t .. 16 + 4t + 3: what a lane holds of B.
// 16-bit floats: units 4 * (step / 2) + t, of both steps columns 2t, 2t + 1, 2t + 8, 2t + 9. F32 as the
// weights.
#pragma once

#include <stdint.h>

#include "core/host_device.h"
#include "kernels/blocks.h"

namespace cria::cuda {

constexpr WeightForm weight_form(DType dtype) {
  return visit_dtype(dtype, [](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (requires { Block::kForm; })
      return Block::kForm;
    else
      return WeightForm::f32;  // a type of activations
  });
}

struct WeightLayout {
  int chunk_cols;
  /// Where the scales begin; those of row r: + r * scale_bytes.
  int scales, scale_bytes;
  /// q8_min, k8_min: 16 bytes a row.
  int mins;
  /// k8, k8_min, k6, c4: d (and dmin) of each row.
  int blocks;
  int chunk_bytes;
  /// s4, c4: the codebook.
  int book = 0;
};

CRIA_HOST_DEVICE constexpr WeightLayout weight_layout(WeightForm form) {
  switch (form) {
    case WeightForm::f32: return {64, 0, 0, 0, 0, 4096};
    case WeightForm::f16:
    case WeightForm::bf16: return {64, 0, 0, 0, 0, 2048};
    case WeightForm::q8: return {256, 4096, 16, 0, 0, 4352};
    case WeightForm::q8_min: return {256, 4096, 16, 4352, 0, 4608};
    case WeightForm::q4: return {256, 2048, 16, 0, 0, 2304};
    case WeightForm::s4: return {256, 2048, 32, 0, 0, 2592, 2560};
    case WeightForm::k8: return {256, 4096, 16, 0, 4352, 4384};
    case WeightForm::k8_min: return {256, 4096, 16, 4352, 4608, 4672};
    case WeightForm::k4: return {256, 2048, 16, 0, 0, 2304};
    case WeightForm::k5: return {256, 2560, 16, 0, 0, 2816};
    case WeightForm::k6: return {256, 3072, 16, 0, 3328, 3360};
    case WeightForm::c4: return {256, 2048, 16, 0, 2304, 2384, 2368};
  }
  return {};
}

/// Whether quants are four bits, two groups of a pair to a byte.
CRIA_HOST_DEVICE constexpr bool has_nibbles(WeightForm form) {
  return form == WeightForm::q4 || form == WeightForm::s4 || form == WeightForm::k4 ||
         form == WeightForm::k5 || form == WeightForm::k6 || form == WeightForm::c4;
}
/// Whether quants are codes of the chunk's codebook.
CRIA_HOST_DEVICE constexpr bool has_codes(WeightForm form) {
  return form == WeightForm::s4 || form == WeightForm::c4;
}

CRIA_HOST_DEVICE constexpr int64_t chunks_of(WeightForm form, int64_t cols) {
  const int64_t chunk = weight_layout(form).chunk_cols;
  return (cols + chunk - 1) / chunk;
}

constexpr int kActivationChunkBytes = 256;  // of integers and F32; 16-bit floats 128
constexpr int kSumBytes = 32;  // q8_k, a chunk: for t the low seven bits of sums 4t .. 4t + 3, then the rest

}  // namespace cria::cuda
