// RMSNorm (Zhang & Sennrich 2019), alone and after a residual addition. Compiled per level; see simd.h.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int64_t kReadAhead =
    4096;  // floats fetched before they are wanted: 16 KiB, more than memory's latency

template <bool kStream>
CRIA_INLINE void put(float* p, F32x16 v) {
  if (kStream)
    stream(p, v);
  else
    store(p, v);
}

// Order: the squares in sixteen chains by index mod 16, merged by the tree; everything in float32.
CRIA_INLINE F32x16 rms_scale(F32x16 squares, int64_t n, float eps) {
  const float mean = reduce_add(squares) / static_cast<float>(n);
  return set1(1.0f / __builtin_sqrtf(mean + eps));
}

// kAdd: x += y on the way. Whole vectors apart from the rest: masked stores are slow on some AVX2 processors.
template <bool kAdd>
static void rms_norm_row(float* x, const float* y, const float* weight, float eps, float* out, int64_t n) {
  const int64_t whole = n / 16 * 16;
  const int left = static_cast<int>(n - whole);
  F32x16 squares = set1(0.0f);
  for (int64_t i = 0; i < whole; i += 16) {
    F32x16 v = load(x + i);
    if (kAdd) {
      v += load(y + i);
      store(x + i, v);
    }
    squares = fma(v, v, squares);
  }
  if (left) {
    F32x16 v = load(x + whole, left);
    if (kAdd) {
      v += load(y + whole, left);
      store(x + whole, v, left);
    }
    squares = fma(v, v, squares);
  }
  const F32x16 scale = rms_scale(squares, n, eps);
  for (int64_t i = 0; i < whole; i += 16) store(out + i, load(x + i) * scale * load(weight + i));
  if (left) store(out + whole, load(x + whole, left) * scale * load(weight + whole, left), left);
}

// Rows that come from memory and go back to it: a row is read while the one before it is written, so that
// the memory is asked for both all the time. out is aligned, n a multiple of 16, and nobody reads out soon.
template <bool kAdd>
static void rms_norm_rows(float* x, const float* y, const float* weight, float eps, float* out, int64_t n,
                          int64_t rows) {
  F32x16 squares = set1(0.0f);
  const auto take = [&](int64_t i) __attribute__((always_inline)) {
    prefetch(x + i + kReadAhead);
    F32x16 v = load(x + i);
    if (kAdd) {
      prefetch(y + i + kReadAhead);
      v += load(y + i);
      store(x + i, v);
    }
    squares = fma(v, v, squares);
  };
  for (int64_t i = 0; i < n; i += 16) take(i);
  const int64_t last = (rows - 1) * n;
  for (int64_t row = 0; row < last; row += n) {
    const F32x16 scale = rms_scale(squares, n, eps);
    squares = set1(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
      take(row + n + i);
      stream(out + row + i, load(x + row + i) * scale * load(weight + i));
    }
  }
  const F32x16 scale = rms_scale(squares, n, eps);
  for (int64_t i = last; i < last + n; i += 16)
    stream(out + i, load(x + i) * scale * load(weight + i - last));
  stream_fence();
}

static void rms_norm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  rms_norm_row<false>(const_cast<float*>(x), nullptr, weight, eps, out, n);  // only read
}
static void rms_norm_stream(const float* x, const float* weight, float eps, float* out, int64_t n,
                            int64_t rows) {
  rms_norm_rows<false>(const_cast<float*>(x), nullptr, weight, eps, out, n, rows);
}
static void add_rms_norm(float* x, const float* y, const float* weight, float eps, float* out, int64_t n) {
  rms_norm_row<true>(x, y, weight, eps, out, n);
}
static void add_rms_norm_stream(float* x, const float* y, const float* weight, float eps, float* out,
                                int64_t n, int64_t rows) {
  rms_norm_rows<true>(x, y, weight, eps, out, n, rows);
}

}  // namespace cria::CRIA_ISA
