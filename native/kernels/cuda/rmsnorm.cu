#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rmsnorm.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;

struct RmsNormShared {
  BlockSumShared<kThreads / kWarpSize> sum;
};

}  // namespace

// One block a row. Order of the sum: 256 chains by index mod 256, each
// an fma an element; warp_sum; warps in order.
static __global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const float* x, const float* weight, float eps, float* out, int n) {
  RmsNormShared& shared = shared_memory<RmsNormShared>();
  const float* row = x + static_cast<size_t>(blockIdx.x) * n;
  float* out_row = out + static_cast<size_t>(blockIdx.x) * n;
  float squares = 0.0f;
  for (int i = thread_in_block(); i < n; i += kThreads) squares = fmaf(row[i], row[i], squares);
  const float mean = block_sum(squares, shared.sum) / static_cast<float>(n);
  const float scale = 1.0f / sqrtf(mean + eps);
  for (int i = thread_in_block(); i < n; i += kThreads) out_row[i] = row[i] * scale * weight[i];
}

void rms_norm(const float* x, const float* weight, float eps, float* out, std::int32_t rows, std::int32_t n,
              Stream stream) {
  launch({.name = "rms_norm", .grid = {static_cast<unsigned>(rows)}, .block = {kThreads}, .stream = stream},
         rms_norm_kernel, x, weight, eps, out, n);
}

}  // namespace cria::cuda
