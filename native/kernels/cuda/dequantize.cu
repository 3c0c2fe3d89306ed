#include "kernels/cuda/dequantize.cuh"
#include "kernels/cuda/dequantize.h"

namespace cria::cuda {

constexpr int kDequantizeThreads = 256;

// A thread an element: the four bytes that it writes are more than it reads, and neighbours read the same
// sectors of a block.
static __global__ void __launch_bounds__(kDequantizeThreads)
    dequantize_kernel(DType dtype, const uint8_t* x, int64_t n, float* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kDequantizeThreads + thread_in_block();
  if (i < n) out[i] = dequantized(dtype, x, i);
}

void dequantize(DType dtype, const void* x, std::int64_t n, float* out, Stream stream) {
  if (n == 0) return;
  launch({.name = "dequantize",
          .grid = {static_cast<unsigned>((n + kDequantizeThreads - 1) / kDequantizeThreads)},
          .block = {kDequantizeThreads},
          .stream = stream},
         dequantize_kernel, dtype, static_cast<const uint8_t*>(x), n, out);
}

}  // namespace cria::cuda
