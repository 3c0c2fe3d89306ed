// KV cache pages in host memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace cria::cuda {

/// Zeroes all tokens of a page (layout "cuda-1") after the first `n_tokens`.
void clear_page_from(const AttentionShape& shape, DType dtype, std::int32_t n_tokens, std::byte* page);

}  // namespace cria::cuda
