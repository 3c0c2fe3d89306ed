// SiLU(gate) * up (Shazeer 2020). Compiled per level.
#pragma once

#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

static void silu_mul(const float* gate, const float* up, float* h, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    store(h + i, mul(silu(load(gate + i, left)), load(up + i, left)), left);
  }
}

// h is aligned and not read soon; n a multiple of 16.
static void silu_mul_stream(const float* gate, const float* up, float* h, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    prefetch(gate + i + kReadAhead);
    prefetch(up + i + kReadAhead);
    stream(h + i, mul(silu(load(gate + i)), load(up + i)));
  }
  end_streaming();
}

}  // namespace cria::CRIA_ISA
