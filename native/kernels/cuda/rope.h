// Rotary position embedding (Su et al. 2021) on CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

struct RopeArgs {
  const float* x;  // [n_tokens, n_heads, head_dim]; token t at x + t * token_stride
  float* out;      // the same; may be x
  std::int64_t token_stride;
  const float* cos;  // [n_tokens, rope_dim / 2]
  const float* sin;
  std::int32_t n_tokens, n_heads, head_dim;
  std::int32_t rope_dim;  // leading dimensions of a head that are rotated; even, at most head_dim
  bool half_layout;       // pairs (i, i + rope_dim / 2) instead of (2i, 2i + 1)
};

/// Rotates. The bits of the CPU backend.
void rope(const RopeArgs& args, Stream stream);

}  // namespace cria::cuda
