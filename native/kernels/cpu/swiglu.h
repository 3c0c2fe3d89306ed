// SiLU(gate) * up (Shazeer 2020). Compiled per level.
#pragma once

#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

static void silu_mul(const float* gate, const float* up, float* h, int64_t n) {
  const int64_t whole = n / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) store(h + i, silu(load(gate + i)) * load(up + i));
  if (const int left = static_cast<int>(n - whole))
    store(h + whole, silu(load(gate + whole, left)) * load(up + whole, left), left);
}

// h is aligned and not read soon; n a multiple of 16.
static void silu_mul_stream(const float* gate, const float* up, float* h, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    prefetch(gate + i + kReadAhead);
    prefetch(up + i + kReadAhead);
    stream(h + i, silu(load(gate + i)) * load(up + i));
  }
  stream_fence();
}

}  // namespace cria::CRIA_ISA
