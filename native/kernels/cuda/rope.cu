#include "kernels/cuda/device.cuh"
#include "kernels/cuda/rope.h"

namespace cria::cuda {

constexpr int kRopeThreads = 128;

// One block per token; its threads take the pairs of all heads, then copy the dimensions after rope_dim. A
// thread reads both elements of a pair before it writes them, so out may be x.
static __global__ void __launch_bounds__(kRopeThreads) rope_kernel(const __grid_constant__ RopeArgs args) {
  const int half = args.rope_dim / 2, token = static_cast<int>(blockIdx.x);
  const int step = args.half_layout ? half : 1, stride = args.half_layout ? 1 : 2;
  const float* row = args.x + token * args.token_stride;
  float* out_row = args.out + token * args.token_stride;
  for (int p = thread_in_block(); p < args.n_heads * half; p += kRopeThreads) {
    const int head = p / half, i = p % half;
    const int64_t at = static_cast<int64_t>(head) * args.head_dim + i * stride;
    const float* a = row + at;
    float* out = out_row + at;
    const float c = args.cos[static_cast<int64_t>(token) * half + i];
    const float s = args.sin[static_cast<int64_t>(token) * half + i];
    const float first = a[0], second = a[step];
    out[0] = first * c - second * s;
    out[step] = first * s + second * c;
  }
  const int rest = args.head_dim - args.rope_dim;
  if (rest == 0 || args.out == args.x) return;
  for (int p = thread_in_block(); p < args.n_heads * rest; p += kRopeThreads) {
    const int64_t at = static_cast<int64_t>(p / rest) * args.head_dim + args.rope_dim + p % rest;
    out_row[at] = row[at];
  }
}

void rope(const RopeArgs& args, Stream stream) {
  if (args.n_tokens == 0) return;
  launch({.name = "rope",
          .grid = {static_cast<unsigned>(args.n_tokens)},
          .block = {kRopeThreads},
          .stream = stream},
         rope_kernel, args);
}

}  // namespace cria::cuda
