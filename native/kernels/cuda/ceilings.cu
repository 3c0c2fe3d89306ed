#include "kernels/cuda/ceilings_kernels.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = kCeilingThreads, kChains = kCeilingChains;

LaunchConfig config_of(const char* name, unsigned blocks, Stream stream) {
  return {.name = name, .grid = {blocks}, .block = {kThreads}, .stream = stream};
}

}  // namespace

// Four 16-byte loads in flight per thread. Their bits go into one word, so that no load is optimised away.
static __global__ void __launch_bounds__(kThreads)
    ceiling_read_kernel(const uint4* x, int64_t n, uint32_t* out) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  uint32_t bits = 0;
  for (int64_t i = thread; i < n; i += 4 * stride) {
    uint4 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = i + k * stride < n ? x[i + k * stride] : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int k = 0; k < 4; k++) bits ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  out[thread] = bits;
}

static __global__ void __launch_bounds__(kThreads)
    ceiling_fma_kernel(int rounds, float factor, float summand, float* out) {
  float chain[kChains];
#pragma unroll
  for (int i = 0; i < kChains; i++)
    chain[i] = static_cast<float>(thread_in_block() + i);  // differs between lanes
  for (int round = 0; round < rounds; round++)
#pragma unroll
    for (int i = 0; i < kChains; i++) chain[i] = fmaf(chain[i], factor, summand);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kChains; i++) sum += chain[i];
  out[static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block()] = sum;
}

// Multiplies zeros, which keep the clock at its highest.
template <class T>
static __global__ void __launch_bounds__(kThreads) ceiling_mma_kernel(int rounds, T* out) {
  const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  T c[kChains][4] = {};
  for (int round = 0; round < rounds; round++)
#pragma unroll
    for (int i = 0; i < kChains; i++) {
      if constexpr (std::is_same_v<T, float>)
        mma_bf16(c[i], a, b);
      else
        mma_s8(c[i], a, b);
    }
  T sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; i++)
    for (int k = 0; k < 4; k++) sum += c[i][k];
  out[static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block()] = sum;
}

void ceiling_read(const void* x, std::size_t bytes, std::uint32_t* out, unsigned blocks, Stream stream) {
  launch(config_of("ceiling_read", blocks, stream), ceiling_read_kernel, static_cast<const uint4*>(x),
         static_cast<int64_t>(bytes / sizeof(uint4)), out);
}

void ceiling_fma(int rounds, std::uint32_t* out, unsigned blocks, Stream stream) {
  launch(config_of("ceiling_fma", blocks, stream), ceiling_fma_kernel, rounds, 0.5f, 1.0f,
         reinterpret_cast<float*>(out));
}

void ceiling_mma_int8(int rounds, std::uint32_t* out, unsigned blocks, Stream stream) {
  launch(config_of("ceiling_mma_int8", blocks, stream), ceiling_mma_kernel<std::int32_t>, rounds,
         reinterpret_cast<std::int32_t*>(out));
}

void ceiling_mma_bf16(int rounds, std::uint32_t* out, unsigned blocks, Stream stream) {
  launch(config_of("ceiling_mma_bf16", blocks, stream), ceiling_mma_kernel<float>, rounds,
         reinterpret_cast<float*>(out));
}

}  // namespace cria::cuda
