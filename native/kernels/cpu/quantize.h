// float32 -> the storage types: activations and weights.
//
// Activations (F16, BF16, Q8_0, Q8_1, Q8_K) follow llama.cpp's reference code. The scalar code here *defines*
// the bits, and vector code gives the same. Every operation is float32, rounded to nearest even and not
// fused:
//
// - Q8_0, Q8_1: amax = max |x| over the 32; d = amax / 127; inv = 1 / d, or 0 when d is 0 or 1 / d is not
// finite;
//   q = x * inv rounded to the nearest integer, halves away from zero; the stored d is f32_to_f16(d). Q8_1
//   adds s = f32_to_f16(d * float(sum of q)), with d before its rounding to binary16. (Vectors: t = trunc(v);
//   q = t +
//   (|v - t| >= 0.5 ? copysign(1, v) : 0); v - t is exact.)
// - Q8_K: m = the x of largest magnitude over the 256, with its sign, the first among equals; inv = -127 / m;
//   q = min(127, inv * x rounded to the nearest integer, halves to even); d = 1 / inv; bsums[g] = sum of q
//   over group g of 16. When m is 0 or inv is not finite, everything is zero.
// - F16, BF16: f32_to_f16, f32_to_bf16.
// - A block with a NaN or an infinity (amax, compared as bits without the sign, is at least 0x7f800000) gets
// the
//   quiet NaN 0x7e00 (Q8_0, Q8_1: d and s) or 0x7fc00000 (Q8_K: d) as its scale and zeros elsewhere, so that
//   results become NaN and the fault shows. A finite Q8_0 block above 127 * 65519 gets an infinite d, for the
//   same reason.
//
// Weights (the other types) are quantized for tests, benchmarks and small models made on the spot: plain
// min/max or largest-magnitude fits (quantize_blocks.h), without a search for the smallest error. Scales
// saturate at binary16's largest value; a block with a NaN or an infinity becomes NaN.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace cria {

/// The type that activations are quantized to for a product with weights of type `weight` (kDTypes).
/// ERR_INVALID_ARGUMENT for a type that is not a weight's.
DType activation_dtype(DType weight);

/// Whether quantize_row() makes blocks of `dtype`. Some types of weights are only read.
bool has_quantizer(DType dtype);

/// dst = the n float32 of `src` as `dtype`, row_bytes(dtype, n) bytes in the file layout (blocks.h).
/// `dst` is aligned to 4 bytes. ERR_INVALID_ARGUMENT if n is no multiple of the block size, or there is no
/// quantizer. No overlap.
void quantize_row(DType dtype, const float* src, void* dst, std::int64_t n);

}  // namespace cria
