#include <cmath>
#include <string>

#include "core/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/attention_simple.cuh"
#include "kernels/cuda/attention_tiles.h"

namespace cria::cuda {
namespace {

using Kernel = void (*)(AttentionKernelArgs);

Kernel decode_kernel(std::int32_t padded) {
  return padded == 64    ? attention_decode_kernel<4>
         : padded == 128 ? attention_decode_kernel<8>
                         : attention_decode_kernel<0>;
}

Kernel prefill_kernel(std::int32_t padded) {
  return padded == 64    ? attention_prefill_kernel<4>
         : padded == 128 ? attention_prefill_kernel<8>
                         : attention_prefill_kernel<0>;
}

std::size_t page_bytes(std::int32_t padded) {
  return static_cast<std::size_t>(kPage) * static_cast<std::size_t>(padded) * 2;
}

std::size_t decode_shared_bytes(std::int32_t padded, std::int32_t stages) {
  return static_cast<std::size_t>(stages) * page_bytes(padded) +
         static_cast<std::size_t>(padded) / 16 * kWarpSize * 16;
}

std::size_t prefill_shared_bytes(std::int32_t padded, std::int32_t stages) {
  return static_cast<std::size_t>(stages) * page_bytes(padded);
}

/// The most stages, two to four, that leave room for `blocks` blocks on a multiprocessor.
std::int32_t stages_for(std::size_t (*bytes)(std::int32_t, std::int32_t), std::int32_t padded,
                        std::size_t statics, std::size_t blocks, const DeviceProperties& device) {
  std::int32_t stages = 4;
  while (stages > 2 && (bytes(padded, stages) + statics > device.shared_per_block ||
                        blocks * (bytes(padded, stages) + statics) > device.shared_per_multiprocessor))
    stages--;
  return stages;
}

void launch_simple(const PagedAttentionArgs& args, Stream stream) {
  const Batch& b = *args.batch;
  const AttentionShape& s = args.shape;
  launch({.name = "attention_f32",
          .grid = {static_cast<unsigned>(s.n_heads), static_cast<unsigned>(b.n_tokens)},
          .block = {kSimpleThreads},
          .stream = stream},
         attention_f32_kernel,
         SimpleAttentionArgs{.q = args.q,
                             .out = args.out,
                             .positions = b.positions,
                             .sequence_of = b.sequence_of,
                             .block_table = b.block_table,
                             .block_table_stride = b.block_table_stride,
                             .pages = reinterpret_cast<const unsigned char*>(args.kv.pages),
                             .page_stride = args.kv.page_stride,
                             .n_heads = s.n_heads,
                             .n_kv_heads = s.n_kv_heads,
                             .head_dim = s.head_dim,
                             .padded = padded_head_dim(s.head_dim),
                             .scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim))});
}

/// What the decode and the prefill kernel take; tiles and stages are each kernel's own.
AttentionKernelArgs kernel_args(const PagedAttentionArgs& args, const AttentionBuffers& buffers) {
  const AttentionShape& s = args.shape;
  const WorkspaceLayout layout = workspace_layout(buffers.limits, s);
  auto* workspace = static_cast<unsigned char*>(buffers.workspace);
  return {.q = args.q,
          .out = args.out,
          .tiles = nullptr,
          .block_table = args.batch->block_table,
          .pages = reinterpret_cast<const unsigned char*>(args.kv.pages),
          .counters = reinterpret_cast<std::uint32_t*>(workspace),
          .partial_stats = reinterpret_cast<float2*>(workspace + layout.stats),
          .partial_out = reinterpret_cast<float*>(workspace + layout.out),
          .page_stride = args.kv.page_stride,
          .block_table_stride = args.batch->block_table_stride,
          .n_heads = s.n_heads,
          .n_kv_heads = s.n_kv_heads,
          .group = s.n_heads / s.n_kv_heads,
          .head_dim = s.head_dim,
          .padded = padded_head_dim(s.head_dim),
          .stages = 0,
          .scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(s.head_dim)))};
}

}  // namespace

AttentionSetup attention_setup(const AttentionShape& shape, const DeviceProperties& device) {
  const std::int32_t padded = padded_head_dim(shape.head_dim);
  if (shape.head_dim <= 0 || shape.head_dim % 2 != 0 || shape.head_dim > kMaxHeadDim)
    throw Error(ErrorCode::unsupported_model,
                "CUDA attention takes even head sizes up to " + std::to_string(kMaxHeadDim) + ", not " +
                    std::to_string(shape.head_dim),
                {{"expected", kMaxHeadDim}, {"found", shape.head_dim}});
  constexpr std::size_t kReserved = 1024;  // of each block, by the device
  AttentionSetup setup;
  setup.decode_stages = stages_for(decode_shared_bytes, padded, sizeof(DecodeShared) + kReserved, 3, device);
  const std::size_t min_bytes = decode_shared_bytes(padded, 2) + sizeof(DecodeShared);
  if (min_bytes > device.shared_per_block)
    throw Error(ErrorCode::unsupported_device,
                "attention with heads of " + std::to_string(shape.head_dim) + " needs " +
                    std::to_string(min_bytes) + " bytes of shared memory, and " + device.name + " has " +
                    std::to_string(device.shared_per_block),
                {{"expected", min_bytes}, {"found", device.shared_per_block}});
  setup.prefill_stages = stages_for(prefill_shared_bytes, padded, kReserved, 1, device);
  set_max_dynamic_shared(reinterpret_cast<const void*>(decode_kernel(padded)), "attention_decode",
                         decode_shared_bytes(padded, setup.decode_stages));
  if (padded <= kMaxPrefillDim)
    set_max_dynamic_shared(reinterpret_cast<const void*>(prefill_kernel(padded)), "attention_prefill",
                           prefill_shared_bytes(padded, setup.prefill_stages));
  return setup;
}

void paged_attention(const PagedAttentionArgs& args, const AttentionBuffers& buffers,
                     const AttentionSetup& setup, Stream stream) {
  if (args.batch->n_tokens == 0) return;
  if (args.kv.dtype == DType::f32) return launch_simple(args, stream);
  const AttentionLimits& limits = buffers.limits;
  AttentionKernelArgs a = kernel_args(args, buffers);
  if (limits.decode_tiles > 0) {
    a.tiles = static_cast<const AttentionTile*>(buffers.plan);
    a.stages = setup.decode_stages;
    launch({.name = "attention_decode",
            .grid = {static_cast<unsigned>(a.n_kv_heads), static_cast<unsigned>(limits.decode_tiles)},
            .block = {kDecodeThreads},
            .dynamic_shared = decode_shared_bytes(a.padded, a.stages),
            .stream = stream},
           decode_kernel(a.padded), a);
  }
  if (limits.prefill_tiles > 0 && a.padded <= kMaxPrefillDim) {
    a.tiles = static_cast<const AttentionTile*>(buffers.plan) + limits.decode_tiles;
    a.stages = setup.prefill_stages;
    launch({.name = "attention_prefill",
            .grid = {static_cast<unsigned>(a.n_kv_heads), static_cast<unsigned>(limits.prefill_tiles)},
            .block = {kPrefillThreads},
            .dynamic_shared = prefill_shared_bytes(a.padded, a.stages),
            .stream = stream},
           prefill_kernel(a.padded), a);
  }
}

}  // namespace cria::cuda
