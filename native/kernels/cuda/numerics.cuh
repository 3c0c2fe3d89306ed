// Functions whose bits are part of a contract: single float32 operations, the same on every device and on the
// CPU.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

/// e^x as the CPU backend's (kernels/cpu/simd.h): 0 below -87.3, infinite above 88.37, about 1 ulp; NaN stays
/// NaN.
CRIA_DEVICE float exp_exact(float x) {
  const float clamped = x > 89.0f ? 89.0f : x < -87.3f ? -87.3f : x;
  const float n = rintf(clamped * 1.44269504f);
  float r = fmaf(n, -0.693145752f, clamped);
  r = fmaf(n, -1.42860677e-6f, r);
  float p = fmaf(1.38888889e-3f, r, 8.33333333e-3f);
  p = fmaf(p, r, 4.16666667e-2f);
  p = fmaf(p, r, 1.66666667e-1f);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  const int power = n == n ? static_cast<int>(n) : 0;
  return x < -87.3f ? 0.0f : p * float_of_bits(static_cast<uint32_t>(power + 127) << 23);
}

}  // namespace cria::cuda
