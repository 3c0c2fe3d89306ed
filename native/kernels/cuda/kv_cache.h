// The paged KV cache on CUDA: the layout of a page, and the append of new keys and values with RoPE.
//
// Layout "cuda-1". A page holds 64 tokens of one sequence for one layer: one block per KV head, K before V,
// with head_dim padded with zeros to D, a multiple of 16. A block's K and V have the layout that the
// attention kernels want in shared memory, so a page arrives by plain copies and is read without bank
// conflicts.
//
//   f16  K and V are [4][D / 16] subtiles of 16 tokens by 16 dimensions, 512 bytes each, in the order in
//        which the lanes of a warp hold two B fragments of mma.m16n8k16 (ptx_matrix.cuh): 16 bytes per lane.
//        With g = lane / 4 and t = lane % 4, a lane's eight values are
//          K: token g,     dimensions 4t .. 4t + 3; then token g + 8, the same dimensions
//          V: dimension g,     tokens 2t, 2t + 1, 2t + 8, 2t + 9; then dimension g + 8, the same tokens
//   f32  K is [D / 4][64 tokens][4], V is [64 tokens][D].
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace cria::cuda {

inline constexpr const char* kKvLayout = "cuda-1";
inline constexpr int kKvPageTokens = 64;
inline constexpr int kMaxHeadDim = 256;

/// head_dim rounded up as in a page.
constexpr std::int32_t padded_head_dim(std::int32_t head_dim) { return (head_dim + 15) / 16 * 16; }
/// Bytes of a page of one KV head.
constexpr std::size_t kv_block_bytes(std::int32_t head_dim, DType kv_dtype) {
  return static_cast<std::size_t>(2 * kKvPageTokens) * static_cast<std::size_t>(padded_head_dim(head_dim)) *
         (kv_dtype == DType::f32 ? 4 : 2);
}
/// Bytes of a page of one layer, as Backend::kv_page_bytes returns.
constexpr std::size_t kv_page_bytes(const AttentionShape& shape, DType kv_dtype) {
  return static_cast<std::size_t>(shape.n_kv_heads) * kv_block_bytes(shape.head_dim, kv_dtype);
}

/// All pointers are on the device, the batch's too. A token whose position is negative is padding: it
/// writes nothing.
struct AppendKvArgs {
  const Batch* batch;
  AttentionShape shape;
  /// q: [n_tokens, n_heads * head_dim], rows q_stride apart. k, v: [n_tokens, n_kv_heads * head_dim], rows
  /// kv_stride apart. Strides are in elements, so the three may be columns of one matrix.
  const float* q;
  const float* k;
  const float* v;
  std::int64_t q_stride, kv_stride;
  /// [n_tokens, n_heads * head_dim]; may be q where q_stride is n_heads * head_dim.
  float* q_out;
  KvLayer kv;
};

/// RoPE (Su et al. 2021) on q and k; k and v appended to their pages at each token's position. A pair becomes
/// a * c - b * s and a * s + b * c, each of two products and a sum; f16 rounds to nearest even.
void append_kv(const AppendKvArgs& args, Stream stream);

}  // namespace cria::cuda
