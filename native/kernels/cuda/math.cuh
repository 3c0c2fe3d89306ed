// Float functions with the same bits as the CPU backend's (kernels/cpu/simd.h takes the same steps).
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

/// e^x within about 1 ulp: Cody-Waite reduction and a polynomial of degree 6. 0 below -87.3, infinite above
/// 88.37; NaN stays NaN.
CRIA_DEVICE float exp_exact(float x) {
  float clamped = x > -87.3f ? x : -87.3f;
  clamped = clamped < 89.0f ? clamped : 89.0f;
  if (x != x) clamped = x;
  const float n = rintf(clamped * 1.44269504f);
  float r = fmaf(n, -0.693145752f, clamped);  // ln 2 in two parts, the first exact in products with n
  r = fmaf(n, -1.42860677e-6f, r);
  float p = 1.38888889e-3f;
  p = fmaf(p, r, 8.33333333e-3f);
  p = fmaf(p, r, 4.16666667e-2f);
  p = fmaf(p, r, 1.66666667e-1f);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  const int exponent = n == n ? static_cast<int>(n) : 0;
  const float scaled = p * float_of_bits(static_cast<uint32_t>(exponent + 127) << 23);
  return x < -87.3f ? 0.0f : scaled;
}

/// x / (1 + e^-x).
CRIA_DEVICE float silu(float x) { return x / (1.0f + exp_exact(0.0f - x)); }

}  // namespace cria::cuda
