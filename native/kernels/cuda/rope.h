// Rotary position embedding (Su et al. 2021) on CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

struct RopeArgs {
  /// x, out: [n_tokens, n_heads, head_dim], token t at x + t * token_stride; may be the same.
  const float* x;
  float* out;
  std::int64_t token_stride;
  /// cos, sin: [n_tokens, rope_dim / 2].
  const float* cos;
  const float* sin;
  std::int32_t n_tokens, n_heads, head_dim;
  /// Leading dimensions of a head that are rotated; even, at most head_dim.
  std::int32_t rope_dim;
  /// Pairs (i, i + rope_dim / 2) instead of (2i, 2i + 1).
  bool half_layout;
};

/// Rotates the pairs; dimensions from rope_dim on are copied. Same bits as the CPU backend.
void rope(const RopeArgs& args, Stream stream);

}  // namespace cria::cuda
