// Embedding lookup on CUDA.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// x[t, :] = row tokens[t] of table [vocab, hidden] as float32, exactly as the type defines it. The table has
/// the file's layout and any weight type; throws ERR_UNSUPPORTED_MODEL for others. A token that is not below
/// vocab gives NaN.
void embed(const void* table, DType dtype, std::int32_t vocab, std::int32_t hidden,
           const std::uint32_t* tokens, std::int32_t n_tokens, float* x, Stream stream);

}  // namespace cria::cuda
