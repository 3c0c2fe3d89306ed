// RMSNorm (Zhang & Sennrich 2019). Compiled per level; see simd.h.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

// Order: the squares in sixteen chains by index mod 16, merged by the tree; everything in float32.
static void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  F32x16 squares = set1(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    const F32x16 v = load(x + i, left);
    squares = fma(v, v, squares);
  }
  const float mean = reduce_add(squares) / static_cast<float>(n);
  const F32x16 scale = set1(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    store(out + i, mul(mul(load(x + i, left), scale), load(weight + i, left)), left);
  }
}

}  // namespace cria::CRIA_ISA
