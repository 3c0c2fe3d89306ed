#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rmsnorm.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;

struct RmsNormShared {
  BlockSumShared<kThreads / kWarpSize> sum;
};

/// out_row = row / sqrt(mean + eps) * weight, given the thread's part of the sum of squares.
CRIA_DEVICE void scale_row(const float* row, const float* weight, float eps, float squares, float* out_row,
                           int n, RmsNormShared& shared) {
  const float mean = block_sum(squares, shared.sum) / static_cast<float>(n);
  const float scale = 1.0f / sqrtf(mean + eps);
  for (int i = thread_in_block(); i < n; i += kThreads) out_row[i] = row[i] * scale * weight[i];
}

}  // namespace

// One block per row. Order of the sum: 256 chains of fma by index mod 256; warp_sum; warps in order.
static __global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const float* x, const float* weight, float eps, float* out, int n) {
  RmsNormShared& shared = shared_memory<RmsNormShared>();
  const float* row = x + static_cast<size_t>(blockIdx.x) * n;
  float squares = 0.0f;
  for (int i = thread_in_block(); i < n; i += kThreads) squares = fmaf(row[i], row[i], squares);
  scale_row(row, weight, eps, squares, out + static_cast<size_t>(blockIdx.x) * n, n, shared);
}

// The same for x + y, which is stored in x. Each element belongs to one thread in both loops, so out may be
// x or y.
static __global__ void __launch_bounds__(kThreads)
    add_rms_norm_kernel(float* x, const float* y, const float* weight, float eps, float* out, int n) {
  RmsNormShared& shared = shared_memory<RmsNormShared>();
  const size_t first = static_cast<size_t>(blockIdx.x) * n;
  float squares = 0.0f;
  for (int i = thread_in_block(); i < n; i += kThreads) {
    const float sum = x[first + i] + y[first + i];
    x[first + i] = sum;
    squares = fmaf(sum, sum, squares);
  }
  scale_row(x + first, weight, eps, squares, out + first, n, shared);
}

void rms_norm(const float* x, const float* weight, float eps, float* out, std::int32_t rows, std::int32_t n,
              Stream stream) {
  if (rows == 0) return;
  launch({.name = "rms_norm", .grid = {static_cast<unsigned>(rows)}, .block = {kThreads}, .stream = stream},
         rms_norm_kernel, x, weight, eps, out, n);
}

void add_rms_norm(float* x, const float* y, const float* weight, float eps, float* out, std::int32_t rows,
                  std::int32_t n, Stream stream) {
  if (rows == 0) return;
  launch(
      {.name = "add_rms_norm", .grid = {static_cast<unsigned>(rows)}, .block = {kThreads}, .stream = stream},
      add_rms_norm_kernel, x, y, weight, eps, out, n);
}

}  // namespace cria::cuda
