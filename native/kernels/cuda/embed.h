// Rows of the embedding on CUDA.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// x[t, :] = row tokens[t] of table [vocab, hidden] as float32, bit for bit as the type is defined. The table
/// is as in the file, of any type that weights may have. A token that is not below vocab gives NaN. Throws
/// ERR_UNSUPPORTED_MODEL for another type.
void embed(const void* table, DType dtype, std::int32_t vocab, std::int32_t hidden,
           const std::uint32_t* tokens, std::int32_t n_tokens, float* x, Stream stream);

}  // namespace cria::cuda
