#include "kernels/cuda/device.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/swiglu.h"

namespace cria::cuda {

static __global__ void __launch_bounds__(256)
    silu_mul_kernel(const float* gate, const float* up, float* h, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + thread_in_block();
  if (i < n) h[i] = silu(gate[i]) * up[i];
}

void silu_mul(const float* gate, const float* up, float* h, std::int64_t n, Stream stream) {
  if (n == 0) return;
  launch({.name = "silu_mul",
          .grid = {static_cast<unsigned>((n + 255) / 256)},
          .block = {256},
          .stream = stream},
         silu_mul_kernel, gate, up, h, n);
}

}  // namespace cria::cuda
