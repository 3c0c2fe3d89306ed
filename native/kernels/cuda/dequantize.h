// The storage types -> float32 on CUDA.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// out[i] = element i of n, as they lie in a file, one block after the other: any type, n a multiple of its
/// block. The bits of the CPU's dequantize_row (a NaN's own bits aside). Both on the device.
void dequantize(DType dtype, const void* x, std::int64_t n, float* out, Stream stream);

}  // namespace cria::cuda
