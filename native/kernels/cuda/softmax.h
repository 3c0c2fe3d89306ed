// Softmax over rows on CUDA, for scripts. Attention and sampling have their own.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// out[r, i] = e^(x[r, i] - max) / sum. x, out: [rows, n], may be the same. A row of -infinity gives NaN.
/// Order of the sum: 256 chains by index mod 256, then block_sum.
void softmax(const float* x, float* out, std::int32_t rows, std::int64_t n, Stream stream);

}  // namespace cria::cuda
