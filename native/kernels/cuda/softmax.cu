#include "kernels/cuda/device.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/softmax.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

struct SoftmaxShared {
  SharedArray<float, kWarps> greatest;
  BlockSumShared<kWarps> sum;
};

}  // namespace

// One block a row.
static __global__ void __launch_bounds__(kThreads) softmax_kernel(const float* x, float* out, int64_t n) {
  SoftmaxShared& shared = shared_memory<SoftmaxShared>();
  const float* row = x + blockIdx.x * n;
  float* out_row = out + blockIdx.x * n;
  float greatest = -INFINITY;
  for (int64_t i = thread_in_block(); i < n; i += kThreads) greatest = fmaxf(greatest, row[i]);
  greatest = warp_max(greatest);
  if (lane_in_warp() == 0) shared.greatest[warp_in_block()] = greatest;
  __syncthreads();
  for (int w = 0; w < kWarps; w++) greatest = fmaxf(greatest, shared.greatest[w]);
  float sum = 0.0f;
  for (int64_t i = thread_in_block(); i < n; i += kThreads) sum += exp_exact(row[i] - greatest);
  const float inverse = 1.0f / block_sum(sum, shared.sum);
  for (int64_t i = thread_in_block(); i < n; i += kThreads)
    out_row[i] = exp_exact(row[i] - greatest) * inverse;
}

void softmax(const float* x, float* out, std::int32_t rows, std::int64_t n, Stream stream) {
  if (rows == 0 || n == 0) return;
  launch({.name = "softmax", .grid = {static_cast<unsigned>(rows)}, .block = {kThreads}, .stream = stream},
         softmax_kernel, x, out, n);
}

}  // namespace cria::cuda
