// RMSNorm (Zhang & Sennrich 2019) on CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight. x, out: [rows, n], may be the same; weight:
/// [n].
void rms_norm(const float* x, const float* weight, float eps, float* out, std::int32_t rows, std::int32_t n,
              Stream stream);

/// x += y, with one rounding per element; then out = RMSNorm(x), as above. y: [rows, n]. out may be x, which
/// then holds the norm, or y; weight must not overlap them.
void add_rms_norm(float* x, const float* y, const float* weight, float eps, float* out, std::int32_t rows,
                  std::int32_t n, Stream stream);

}  // namespace cria::cuda
