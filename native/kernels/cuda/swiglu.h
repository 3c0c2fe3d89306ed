// SiLU(gate) * up (Shazeer 2020) on CUDA.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// h[i] = silu(gate[i]) * up[i]; h may be gate or up. Same bits as the CPU backend.
void silu_mul(const float* gate, const float* up, float* h, std::int64_t n, Stream stream);

}  // namespace cria::cuda
