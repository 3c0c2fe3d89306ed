// A page of the KV cache on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace cria::cuda {

/// Zeros what a page of layout "cuda-1" holds beyond its first `n_tokens` positions.
void clear_page_from(const AttentionShape& shape, DType dtype, std::int32_t n_tokens, std::byte* page);

}  // namespace cria::cuda
