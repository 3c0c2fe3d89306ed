// Softmax of a row. Compiled per level.
#pragma once

#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int64_t kSumBlock = 1024;  // part of the order of summation: long rows would lose bits in one chain

// Order: e^(x - max) in sixteen chains by index mod 16, block by block of 1024; the blocks' chains added in
// order and merged by the tree; times 1 / sum. `out` may be x, and keeps the exponentials between the passes.
static void softmax(const float* x, float* out, int64_t n) {
  F32x16 highest = set1(-__builtin_inff());
  for (int64_t i = 0; i + 16 <= n; i += 16) highest = max(highest, load(x + i));
  float top = reduce_max(highest);
  for (int64_t i = n / 16 * 16; i < n; i++) top = x[i] > top ? x[i] : top;
  // A NaN that the maximum passed over is found here, as is infinity less infinity. (The maximum may also
  // have lost what stood before a NaN: such a row is NaN, whatever its powers are.)
  F32x16 total = set1(0.0f);
  for (int64_t block = 0; block + 16 <= n; block += kSumBlock) {
    const int64_t end = n - block < kSumBlock ? n : block + kSumBlock;
    F32x16 part = set1(0.0f);
    for (int64_t i = block; i + 16 <= end; i += 16) {
      const F32x16 e = exp_nonpositive(load(x + i) - top);
      store(out + i, e);
      part += e;
    }
    total += part;
  }
  if (const int left = static_cast<int>(n % 16)) {
    float e[16];
    store(e, set1(top));  // lanes beyond the end must not be above it
    store(e, load(x + n - left, left), left);
    store(e, exp_nonpositive(load(e) - top));
    total += load(e, left);
    store(out + n - left, load(e), left);
  }
  const F32x16 inverse = set1(1.0f / reduce_add(total));
  const int64_t whole = n / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) store(out + i, load(out + i) * inverse);
  if (const int left = static_cast<int>(n - whole))
    store(out + whole, load(out + whole, left) * inverse, left);
}

// Rows that come from memory and go back to it. The three passes run side by side, each a row behind the one
// before: while a row's exponentials are computed, the next one's maximum is sought and the last one's
// results are written, so that the memory is asked for both all the time.
template <bool kHasLast>
CRIA_INLINE F32x16 softmax_step(const float* x, F32x16 top, float* powers, int64_t n, const float* next,
                                F32x16* highest, const float* last, F32x16 inverse, float* out) {
  F32x16 total = set1(0.0f);
  for (int64_t block = 0; block < n; block += kSumBlock) {
    const int64_t end = n - block < kSumBlock ? n : block + kSumBlock;
    F32x16 part = set1(0.0f);
    for (int64_t i = block; i < end; i += 16) {
      const F32x16 e = exp_nonpositive(load(x + i) - top);
      prefetch(next + i + kReadAhead);
      *highest = max(*highest, load(next + i));
      if (kHasLast) stream(out + i, load(last + i) * inverse);
      store(powers + i, e);
      part += e;
    }
    total += part;
  }
  return total;
}

// scratch: [2, n], which fits the cache; n a multiple of 16.
static void softmax_stream(const float* x, float* scratch, float* out, int64_t n, int64_t rows) {
  float *powers = scratch, *last = scratch + n;
  F32x16 highest = set1(-__builtin_inff()), inverse = set1(0.0f);
  for (int64_t i = 0; i < n; i += 16) highest = max(highest, load(x + i));
  for (int64_t r = 0; r < rows; r++) {
    const float *row = x + r * n, *next = r + 1 < rows ? row + n : row;
    const F32x16 top = set1(reduce_max(highest));
    highest = set1(-__builtin_inff());
    const F32x16 total =
        r == 0 ? softmax_step<false>(row, top, powers, n, next, &highest, nullptr, inverse, nullptr)
               : softmax_step<true>(row, top, powers, n, next, &highest, last, inverse, out + (r - 1) * n);
    inverse = set1(1.0f / reduce_add(total));
    float* const written = last;
    last = powers;
    powers = written;
  }
  for (int64_t i = 0; i < n; i += 16) stream(out + (rows - 1) * n + i, load(last + i) * inverse);
  stream_fence();
}

}  // namespace cria::CRIA_ISA
