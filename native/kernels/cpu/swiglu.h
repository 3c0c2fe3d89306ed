// SiLU(gate) * up (Shazeer 2020). Compiled per level.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

static void silu_mul(const float* gate, const float* up, float* h, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    store(h + i, mul(silu(load(gate + i, left)), load(up + i, left)), left);
  }
}

}  // namespace cria::CRIA_ISA
