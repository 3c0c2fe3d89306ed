// RMSNorm (Zhang & Sennrich 2019) on CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight. x, out:
/// [rows, n], may be the same; weight: [n].
void rms_norm(const float* x, const float* weight, float eps, float* out, std::int32_t rows, std::int32_t n,
              Stream stream);

}  // namespace cria::cuda
