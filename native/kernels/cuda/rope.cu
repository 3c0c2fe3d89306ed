#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rope.h"

namespace cria::cuda {

constexpr int kRopeThreads = 128;

// A block takes a token; its threads, the pairs of all heads.
static __global__ void __launch_bounds__(kRopeThreads) rope_kernel(const __grid_constant__ RopeArgs args) {
  const int half = args.rope_dim / 2, token = static_cast<int>(blockIdx.x);
  const int step = args.half_layout ? half : 1, stride = args.half_layout ? 1 : 2;
  float* row = args.x + token * args.token_stride;
  for (int p = thread_in_block(); p < args.n_heads * half; p += kRopeThreads) {
    const int head = p / half, i = p % half;
    float* a = row + static_cast<int64_t>(head) * args.head_dim + i * stride;
    const float c = args.cos[static_cast<int64_t>(token) * half + i];
    const float s = args.sin[static_cast<int64_t>(token) * half + i];
    const float first = a[0], second = a[step];
    a[0] = first * c - second * s;
    a[step] = first * s + second * c;
  }
}

void rope(const RopeArgs& args, Stream stream) {
  if (args.n_tokens == 0 || args.rope_dim == 0) return;
  launch({.name = "rope",
          .grid = {static_cast<unsigned>(args.n_tokens)},
          .block = {kRopeThreads},
          .stream = stream},
         rope_kernel, args);
}

}  // namespace cria::cuda
