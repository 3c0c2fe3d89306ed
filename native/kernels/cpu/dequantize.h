// Weights (and activations) of every storage type -> float32. The definition that kernels are tested against.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace cria {

/// dst[n] float32 = the values of `src`, n elements of `dtype` in its file layout (blocks.h), bit for bit as
/// the format defines them: the float operations happen in the order written at each struct, none is fused.
/// `src` is aligned to 4 bytes; n is a multiple of the block size, or ERR_INVALID_ARGUMENT. No overlap.
void dequantize_row(DType dtype, const void* src, float* dst, std::int64_t n);

}  // namespace cria
