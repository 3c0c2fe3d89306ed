// Softmax of a row. Compiled per level.
#pragma once

#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

constexpr int64_t kSumBlock = 1024;  // part of the order of summation: long rows would lose bits in one chain

// Order: e^(x - max) in sixteen chains by index mod 16, block by block of 1024; the blocks' chains added in
// order and merged by the tree; times 1 / sum. `powers` [n] keeps the exponentials between the passes; it may
// be x or out, and fits the cache where kStream.
template <bool kStream>
static void softmax_row(const float* x, float* powers, float* out, int64_t n) {
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
      const F32x16 e = exp_down(sub(load(x + i), set1(top)));
      if (kStream) prefetch(x + n + i);  // the next row comes while this one is computed
      store(powers + i, e);
      part = add(part, e);
    }
    total = add(total, part);
  }
  if (const int left = static_cast<int>(n % 16)) {
    float e[16];
    store(e, set1(top));  // lanes beyond the end must not be above it
    store(e, load(x + n - left, left), left);
    store(e, exp_down(sub(load(e), set1(top))));
    total = add(total, load(e, left));
    store(powers + n - left, load(e), left);
  }
  const F32x16 inverse = set1(1.0f / reduce_add(total));
  const int64_t whole = n / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) put<kStream>(out + i, mul(load(powers + i), inverse));
  if (const int left = static_cast<int>(n - whole))
    store(out + whole, mul(load(powers + whole, left), inverse), left);
  if (kStream) end_streaming();
}

static void softmax(const float* x, float* out, int64_t n) { softmax_row<false>(x, out, out, n); }
static void softmax_stream(const float* x, float* scratch, float* out, int64_t n) {
  softmax_row<true>(x, scratch, out, n);
}

}  // namespace cria::CRIA_ISA
