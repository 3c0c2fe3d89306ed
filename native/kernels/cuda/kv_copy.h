// KV cache pages to and from plain arrays on CUDA, for scripts.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace cria::cuda {

/// Writes k and v, [n_pages, n_kv_heads, 64, head_dim], to the first n_pages pages, rounded to kv.dtype (to
/// nearest even); the padding of head_dim becomes zero. All pointers are on the device.
void write_kv(const AttentionShape& shape, const KvLayer& kv, std::int32_t n_pages, const float* k,
              const float* v, Stream stream);
/// Reads them back, exactly.
void read_kv(const AttentionShape& shape, const KvLayer& kv, std::int32_t n_pages, float* k, float* v,
             Stream stream);

}  // namespace cria::cuda
