// float32 -> the storage types on CUDA.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// The n float32 of x as `dtype`, as they would lie in a file: any type, n a multiple of its block. The bits
/// of the CPU's quantize_row. Both on the device.
void quantize(DType dtype, const float* x, std::int64_t n, void* out, Stream stream);

}  // namespace cria::cuda
