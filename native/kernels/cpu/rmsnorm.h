// RMSNorm (Zhang & Sennrich 2019), alone and after a residual addition. Compiled per level; see simd.h.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int64_t kReadAhead =
    1024;  // floats that are fetched before they are wanted: 4 KiB (docs/performance.md)

template <bool kStream>
CRIA_INLINE void put(float* p, F32x16 v) {
  if (kStream)
    stream(p, v);
  else
    store(p, v);
}

// Order: the squares in sixteen chains by index mod 16, merged by the tree; everything in float32.
// kAdd: x += y on the way. kStream: out is aligned, n a multiple of 16, and nobody reads out soon.
// Whole vectors apart from the rest: masked stores are slow on some AVX2 processors.
template <bool kAdd, bool kStream>
static void rms_norm_row(float* x, const float* y, const float* weight, float eps, float* out, int64_t n) {
  const int64_t whole = n / 16 * 16;
  const int left = static_cast<int>(n - whole);
  F32x16 squares = set1(0.0f);
  for (int64_t i = 0; i < whole; i += 16) {
    F32x16 v = load(x + i);
    if (kAdd) {
      v = add(v, load(y + i));
      store(x + i, v);
    }
    squares = fma(v, v, squares);
  }
  if (left) {
    F32x16 v = load(x + whole, left);
    if (kAdd) {
      v = add(v, load(y + whole, left));
      store(x + whole, v, left);
    }
    squares = fma(v, v, squares);
  }
  const float mean = reduce_add(squares) / static_cast<float>(n);
  const F32x16 scale = set1(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < whole; i += 16) {
    if (kStream) {  // the next row comes while this one goes
      prefetch(x + n + i);
      if (kAdd) prefetch(y + n + i);
    }
    put<kStream>(out + i, mul(mul(load(x + i), scale), load(weight + i)));
  }
  if (left) store(out + whole, mul(mul(load(x + whole, left), scale), load(weight + whole, left)), left);
  if (kStream) end_streaming();
}

static void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  rms_norm_row<false, false>(const_cast<float*>(x), nullptr, weight, eps, out, n);  // only read
}
static void rms_norm_stream(const float* x, const float* weight, float eps, float* out, int64_t n) {
  rms_norm_row<false, true>(const_cast<float*>(x), nullptr, weight, eps, out, n);
}
static void add_rms_norm(float* x, const float* y, const float* weight, float eps, float* out, int64_t n) {
  rms_norm_row<true, false>(x, y, weight, eps, out, n);
}
static void add_rms_norm_stream(float* x, const float* y, const float* weight, float eps, float* out,
                                int64_t n) {
  rms_norm_row<true, true>(x, y, weight, eps, out, n);
}

}  // namespace cria::CRIA_ISA
