// The online softmax (Milakov & Gimelshein 2018) as a state: each page updates it, the states of spans are
// merged, and the final one is normalized. The same state on the CPU: SoftmaxState in
// kernels/cpu/kernel_table.h.
//
// For a row with scores s, where exp(x) is 2^x or e^x, depending on how the scores were scaled: a page raises
// the maximum to m' = max(m, max of s), multiplies sum and out by exp(m - m'), and adds exp(s - m') and exp(s
// - m') * v of its tokens. A merge brings two states to their common maximum m': with r1 = exp(m1 - m') and
// r2 = exp(m2 - m'), sum = fma(sum2, r2, sum1 * r1), and out likewise.
#pragma once

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

/// A maximum that is safe to subtract. A row that has seen no token has -infinity, and -infinity minus
/// itself would be NaN; any finite value makes its exponentials zero.
CRIA_DEVICE float finite_max(float max) { return max == -INFINITY ? 0.0f : max; }

/// The common maximum of two states and the factors that rescale them to it. A later state that has seen no
/// token leaves the earlier one as it is, down to the sign of a zero.
template <float (*kExp)(float)>
struct MergeFactors {
  float max, earlier, later;
  CRIA_DEVICE MergeFactors(float earlier_max, float later_max) {
    max = fmaxf(earlier_max, later_max);
    earlier = kExp(earlier_max - finite_max(max));
    later = later_max == -INFINITY ? -0.0f : kExp(later_max - finite_max(max));
  }
  CRIA_DEVICE float merge(float earlier_value, float later_value) const {
    return fmaf(later_value, later, earlier_value * earlier);
  }
};

/// Raises `max` to a page's maximum, if that is larger. Returns the factor that rescales what was summed
/// under the old maximum.
template <float (*kExp)(float)>
CRIA_DEVICE float raise_max(float& max, float page_max) {
  const float before = max;
  max = fmaxf(max, page_max);
  return kExp(before - finite_max(max));
}

/// The state of one row. The thread holds kDims values of the row's output.
template <int kDims, float (*kExp)(float)>
struct SoftmaxState {
  float max, sum, out[kDims];

  CRIA_DEVICE void init() {
    max = -INFINITY;
    sum = 0.0f;
#pragma unroll
    for (int d = 0; d < kDims; d++) out[d] = 0.0f;
  }
  /// Raises the maximum to a page's and rescales `out`, but not `sum`: it returns the factor, and the caller
  /// does sum = fma(sum, factor, page's sum).
  CRIA_DEVICE float update(float page_max) {
    const float rescale = raise_max<kExp>(max, page_max);
#pragma unroll
    for (int d = 0; d < kDims; d++) out[d] *= rescale;
    return rescale;
  }
  CRIA_DEVICE void merge(const SoftmaxState& later) {
    const MergeFactors<kExp> factors(max, later.max);
    max = factors.max;
    sum = factors.merge(sum, later.sum);
#pragma unroll
    for (int d = 0; d < kDims; d++) out[d] = factors.merge(out[d], later.out[d]);
  }
  CRIA_DEVICE void normalize() {
    const float inverse = 1.0f / sum;
#pragma unroll
    for (int d = 0; d < kDims; d++) out[d] *= inverse;
  }
};

/// The states of a thread's two rows, g and g + 8 of sixteen, as the accumulators of mma hold them: elements
/// 0 and 1 belong to row g, 2 and 3 to row g + 8, where g = lane / 4. kDimTiles: how many times sixteen
/// output dimensions the warp has, two accumulators each. Exponentials are powers of two.
template <int kDimTiles>
struct SoftmaxFragment {
  float max[2];
  float sum[4];  // each row's twice: mma computes them by multiplying p with columns of ones
  float out[kDimTiles][2][4];

  CRIA_DEVICE void init() {
    max[0] = max[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = 0.0f;
#pragma unroll
    for (int j = 0; j < kDimTiles; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) out[j][0][i] = out[j][1][i] = 0.0f;
  }
  /// Raises the maximum of row g + 8 * r to a page's. Returns the factor for rescale().
  CRIA_DEVICE float update_max(int r, float page_max) { return raise_max<exp2_approx>(max[r], page_max); }
  CRIA_DEVICE void rescale(const float (&factors)[2]) {
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] *= factors[i >> 1];
#pragma unroll
    for (int j = 0; j < kDimTiles; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        out[j][0][i] *= factors[i >> 1];
        out[j][1][i] *= factors[i >> 1];
      }
  }
  CRIA_DEVICE void merge(const SoftmaxFragment& later) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const MergeFactors<exp2_approx> factors(max[r], later.max[r]);
      max[r] = factors.max;
      sum[2 * r] = factors.merge(sum[2 * r], later.sum[2 * r]);
#pragma unroll
      for (int j = 0; j < kDimTiles; j++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; i++)
            out[j][half][i] = factors.merge(out[j][half][i], later.out[j][half][i]);
    }
  }
  CRIA_DEVICE void normalize() {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float inverse = 1.0f / sum[2 * r];
#pragma unroll
      for (int j = 0; j < kDimTiles; j++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; i++) out[j][half][i] *= inverse;
    }
  }
};

}  // namespace cria::cuda
