#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

static_assert(kKvPageTokens == kCudaPageTokens);

namespace {

constexpr int kThreads = 128;

struct AppendKernelArgs {
  const float* q;
  const float* k;
  const float* v;
  float* q_out;
  int64_t q_stride, kv_stride;
  const int32_t* positions;
  const int32_t* sequence_of;
  const int32_t* block_table;
  int32_t block_table_stride;
  const float* cos;
  const float* sin;
  unsigned char* pages;
  size_t page_stride;
  int32_t n_heads, n_kv_heads, head_dim, padded, rope_dim;
  bool half_layout;
};

/// Element d of a head after RoPE.
CRIA_DEVICE float rotated(const float* head, int d, const float* cos, const float* sin, int rope_dim,
                          bool half_layout) {
  if (d >= rope_dim) return head[d];
  const int half = rope_dim / 2;
  const int pair = half_layout ? (d < half ? d : d - half) : d / 2;
  const bool first = half_layout ? d < half : d % 2 == 0;
  const int step = half_layout ? half : 1;
  const float a = first ? head[d] : head[d - step], b = first ? head[d + step] : head[d];
  return first ? a * cos[pair] - b * sin[pair] : a * sin[pair] + b * cos[pair];
}

}  // namespace

// One block per token.
template <bool kF32>
static __global__ void __launch_bounds__(kThreads) append_kv_kernel(AppendKernelArgs a) {
  const int token = static_cast<int>(blockIdx.x), position = a.positions[token];
  if (position < 0) return;
  const int half = a.rope_dim / 2;
  const float* cos = a.cos + static_cast<int64_t>(token) * half;
  const float* sin = a.sin + static_cast<int64_t>(token) * half;

  // A thread reads and writes both elements of a pair, so q may be in place.
  const float* q = a.q + token * a.q_stride;
  float* q_out = a.q_out + static_cast<int64_t>(token) * a.n_heads * a.head_dim;
  const int pairs = a.head_dim / 2;
  for (int i = thread_in_block(); i < a.n_heads * pairs; i += kThreads) {
    const int head = i / pairs, pair = i % pairs;
    const int first = pair >= half ? 2 * pair : a.half_layout ? pair : 2 * pair;
    const int second = pair >= half ? first + 1 : a.half_layout ? pair + half : first + 1;
    const float x = q[head * a.head_dim + first], y = q[head * a.head_dim + second];
    const float c = pair < half ? cos[pair] : 1.0f, s = pair < half ? sin[pair] : 0.0f;
    q_out[head * a.head_dim + first] = pair < half ? x * c - y * s : x;
    q_out[head * a.head_dim + second] = pair < half ? x * s + y * c : y;
  }

  const int page = a.block_table[static_cast<int64_t>(a.sequence_of[token]) * a.block_table_stride +
                                 position / kCudaPageTokens];
  const int slot = position % kCudaPageTokens, tiles = a.padded / 16;
  const int64_t block_elements = int64_t{2} * kCudaPageTokens * a.padded;
  unsigned char* blocks = a.pages + static_cast<size_t>(page) * a.page_stride;
  const float* k = a.k + token * a.kv_stride;
  const float* v = a.v + token * a.kv_stride;
  for (int i = thread_in_block(); i < a.n_kv_heads * (a.padded / 4); i += kThreads) {
    const int head = i / (a.padded / 4), d = i % (a.padded / 4) * 4;
    float x[4];
    for (int j = 0; j < 4; j++)
      x[j] = d + j < a.head_dim ? rotated(k + head * a.head_dim, d + j, cos, sin, a.rope_dim, a.half_layout)
                                : 0.0f;
    if constexpr (kF32) {
      float* block = reinterpret_cast<float*>(blocks) + head * block_elements;
      *reinterpret_cast<float4*>(block + k_f32_at(slot, d)) = make_float4(x[0], x[1], x[2], x[3]);
    } else {
      uint16_t* block = reinterpret_cast<uint16_t*>(blocks) + head * block_elements;
      *reinterpret_cast<uint2*>(block + k_f16_at(slot, d, tiles)) =
          make_uint2(pack_f16x2(x[0], x[1]), pack_f16x2(x[2], x[3]));
    }
  }
  for (int i = thread_in_block(); i < a.n_kv_heads * a.padded; i += kThreads) {
    const int head = i / a.padded, d = i % a.padded;
    const float x = d < a.head_dim ? v[head * a.head_dim + d] : 0.0f;
    if constexpr (kF32) {
      float* block = reinterpret_cast<float*>(blocks) + head * block_elements + kCudaPageTokens * a.padded;
      block[v_f32_at(slot, d, a.padded)] = x;
    } else {
      uint16_t* block =
          reinterpret_cast<uint16_t*>(blocks) + head * block_elements + kCudaPageTokens * a.padded;
      block[v_f16_at(slot, d, tiles)] = float_to_f16(x);
    }
  }
}

void append_kv(const AppendKvArgs& args, Stream stream) {
  const Batch& b = *args.batch;
  const AttentionShape& s = args.shape;
  if (b.n_tokens == 0) return;
  const AppendKernelArgs a{.q = args.q,
                           .k = args.k,
                           .v = args.v,
                           .q_out = args.q_out,
                           .q_stride = args.q_stride,
                           .kv_stride = args.kv_stride,
                           .positions = b.positions,
                           .sequence_of = b.sequence_of,
                           .block_table = b.block_table,
                           .block_table_stride = b.block_table_stride,
                           .cos = b.rope_cos,
                           .sin = b.rope_sin,
                           .pages = reinterpret_cast<unsigned char*>(args.kv.pages),
                           .page_stride = args.kv.page_stride,
                           .n_heads = s.n_heads,
                           .n_kv_heads = s.n_kv_heads,
                           .head_dim = s.head_dim,
                           .padded = padded_head_dim(s.head_dim),
                           .rope_dim = s.rope_dim,
                           .half_layout = s.rope_half_layout};
  const LaunchConfig config{.name = "append_kv",
                            .grid = {static_cast<unsigned>(b.n_tokens)},
                            .block = {kThreads},
                            .stream = stream};
  if (args.kv.dtype == DType::f32)
    launch(config, append_kv_kernel<true>, a);
  else
    launch(config, append_kv_kernel<false>, a);
}

}  // namespace cria::cuda
