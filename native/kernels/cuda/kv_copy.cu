#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/kv_copy.h"
#include "kernels/cuda/ptx_convert.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;

struct KvCopyKernelArgs {
  unsigned char* pages;
  size_t page_stride;
  int32_t n_kv_heads, head_dim, padded;
};

/// Index of token t's dimension d of K, and of V, in a head's block.
template <bool kF32>
CRIA_DEVICE int k_index(int t, int d, int padded) {
  return kF32 ? k_f32_at(t, d) : k_f16_at(t, d, padded / 16);
}
template <bool kF32>
CRIA_DEVICE int v_index(int t, int d, int padded) {
  return kCudaPageTokens * padded + (kF32 ? v_f32_at(t, d, padded) : v_f16_at(t, d, padded / 16));
}

}  // namespace

// Block (page, head). Neighbouring threads take neighbouring elements of the plain array.
template <bool kF32>
static __global__ void __launch_bounds__(kThreads)
    write_kv_kernel(KvCopyKernelArgs a, const float* k, const float* v) {
  using Stored = std::conditional_t<kF32, float, uint16_t>;
  const int64_t block_elements = int64_t{2} * kCudaPageTokens * a.padded;
  auto* block = reinterpret_cast<Stored*>(a.pages + blockIdx.x * a.page_stride) + blockIdx.y * block_elements;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * a.n_kv_heads + blockIdx.y) * kCudaPageTokens;
  for (int i = thread_in_block(); i < kCudaPageTokens * a.padded; i += kThreads) {
    const int t = i / a.padded, d = i % a.padded;
    const int64_t at = (first + t) * a.head_dim + d;
    const float key = d < a.head_dim ? k[at] : 0.0f, value = d < a.head_dim ? v[at] : 0.0f;
    if constexpr (kF32) {
      block[k_index<kF32>(t, d, a.padded)] = key;
      block[v_index<kF32>(t, d, a.padded)] = value;
    } else {
      block[k_index<kF32>(t, d, a.padded)] = float_to_f16(key);
      block[v_index<kF32>(t, d, a.padded)] = float_to_f16(value);
    }
  }
}

template <bool kF32>
static __global__ void __launch_bounds__(kThreads) read_kv_kernel(KvCopyKernelArgs a, float* k, float* v) {
  using Stored = std::conditional_t<kF32, float, uint16_t>;
  const int64_t block_elements = int64_t{2} * kCudaPageTokens * a.padded;
  const auto* block =
      reinterpret_cast<const Stored*>(a.pages + blockIdx.x * a.page_stride) + blockIdx.y * block_elements;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * a.n_kv_heads + blockIdx.y) * kCudaPageTokens;
  for (int i = thread_in_block(); i < kCudaPageTokens * a.head_dim; i += kThreads) {
    const int t = i / a.head_dim, d = i % a.head_dim;
    const int64_t at = first * a.head_dim + i;
    const Stored key = block[k_index<kF32>(t, d, a.padded)], value = block[v_index<kF32>(t, d, a.padded)];
    if constexpr (kF32) {
      k[at] = key;
      v[at] = value;
    } else {
      k[at] = f16_to_float(key);
      v[at] = f16_to_float(value);
    }
  }
}

namespace {

LaunchConfig config_of(const char* name, const AttentionShape& shape, std::int32_t n_pages, Stream stream) {
  return {.name = name,
          .grid = {static_cast<unsigned>(n_pages), static_cast<unsigned>(shape.n_kv_heads)},
          .block = {kThreads},
          .stream = stream};
}

KvCopyKernelArgs args_of(const AttentionShape& shape, const KvLayer& kv) {
  return {.pages = reinterpret_cast<unsigned char*>(kv.pages),
          .page_stride = kv.page_stride,
          .n_kv_heads = shape.n_kv_heads,
          .head_dim = shape.head_dim,
          .padded = padded_head_dim(shape.head_dim)};
}

}  // namespace

void write_kv(const AttentionShape& shape, const KvLayer& kv, std::int32_t n_pages, const float* k,
              const float* v, Stream stream) {
  if (n_pages == 0) return;
  launch(config_of("write_kv", shape, n_pages, stream),
         kv.dtype == DType::f32 ? write_kv_kernel<true> : write_kv_kernel<false>, args_of(shape, kv), k, v);
}

void read_kv(const AttentionShape& shape, const KvLayer& kv, std::int32_t n_pages, float* k, float* v,
             Stream stream) {
  if (n_pages == 0) return;
  launch(config_of("read_kv", shape, n_pages, stream),
         kv.dtype == DType::f32 ? read_kv_kernel<true> : read_kv_kernel<false>, args_of(shape, kv), k, v);
}

}  // namespace cria::cuda
