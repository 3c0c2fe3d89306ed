#include "kernels/cuda/device.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/softmax.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

struct SoftmaxShared {
  SharedArray<float, kWarps> row_max;
  BlockSumShared<kWarps> sum;
};

}  // namespace

// One block per row.
static __global__ void __launch_bounds__(kThreads) softmax_kernel(const float* x, float* out, int64_t n) {
  SoftmaxShared& shared = shared_memory<SoftmaxShared>();
  const float* row = x + blockIdx.x * n;
  float* out_row = out + blockIdx.x * n;
  float row_max = -INFINITY;
  for (int64_t i = thread_in_block(); i < n; i += kThreads) row_max = fmaxf(row_max, row[i]);
  row_max = warp_max(row_max);
  if (lane_in_warp() == 0) shared.row_max[warp_in_block()] = row_max;
  __syncthreads();
  for (int w = 0; w < kWarps; w++) row_max = fmaxf(row_max, shared.row_max[w]);
  float sum = 0.0f;
  for (int64_t i = thread_in_block(); i < n; i += kThreads) sum += exp_exact(row[i] - row_max);
  const float inverse = 1.0f / block_sum(sum, shared.sum);
  for (int64_t i = thread_in_block(); i < n; i += kThreads)
    out_row[i] = exp_exact(row[i] - row_max) * inverse;
}

void softmax(const float* x, float* out, std::int32_t rows, std::int64_t n, Stream stream) {
  if (rows == 0 || n == 0) return;
  launch({.name = "softmax", .grid = {static_cast<unsigned>(rows)}, .block = {kThreads}, .stream = stream},
         softmax_kernel, x, out, n);
}

}  // namespace cria::cuda
