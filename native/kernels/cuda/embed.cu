#include <string>

#include "core/error.h"
#include "kernels/cuda/dequantize.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/ptx_convert.cuh"

namespace cria::cuda {

constexpr int kEmbedThreads = 128;

template <DType kType>
static __global__ void __launch_bounds__(kEmbedThreads)
    embed_kernel(const void* table, int vocab, int hidden, const uint32_t* tokens, float* x) {
  const uint32_t token = tokens[blockIdx.x];
  const bool known = token < static_cast<uint32_t>(vocab);
  const int64_t row = static_cast<int64_t>(known ? token : 0) * hidden;
  float* out = x + static_cast<int64_t>(blockIdx.x) * hidden;
  for (int i = thread_in_block(); i < hidden; i += kEmbedThreads) {
    float value;
    if constexpr (kType == DType::f32)
      value = static_cast<const float*>(table)[row + i];
    else if constexpr (kType == DType::f16)
      value = f16_to_float(static_cast<const uint16_t*>(table)[row + i]);
    else
      value = bf16_to_float(static_cast<const uint16_t*>(table)[row + i]);
    out[i] = known ? value : float_of_bits(0x7fc00000u);
  }
}

static __global__ void __launch_bounds__(kEmbedThreads)
    embed_quantized_kernel(const uint8_t* table, DType dtype, int64_t row_bytes, int vocab, int hidden,
                           const uint32_t* tokens, float* x) {
  const uint32_t token = tokens[blockIdx.x];
  const bool known = token < unsigned(vocab);
  const uint8_t* row = table + (known ? token : 0) * row_bytes;
  float* out = x + static_cast<int64_t>(blockIdx.x) * hidden;
  for (int i = thread_in_block(); i < hidden; i += kEmbedThreads)
    out[i] = known ? dequantized(dtype, row, i) : float_of_bits(0x7fc00000u);
}

void embed(const void* table, DType dtype, std::int32_t vocab, std::int32_t hidden,
           const std::uint32_t* tokens, std::int32_t n_tokens, float* x, Stream stream) {
  if (n_tokens == 0) return;
  const LaunchConfig config{
      .name = "embed", .grid = {static_cast<unsigned>(n_tokens)}, .block = {kEmbedThreads}, .stream = stream};
  switch (dtype) {
    case DType::f32: return launch(config, embed_kernel<DType::f32>, table, vocab, hidden, tokens, x);
    case DType::f16: return launch(config, embed_kernel<DType::f16>, table, vocab, hidden, tokens, x);
    case DType::bf16: return launch(config, embed_kernel<DType::bf16>, table, vocab, hidden, tokens, x);
    default: break;
  }
  const DTypeTraits& traits = traits_of(dtype);
  if (!traits.is_weight || static_cast<std::uint32_t>(hidden) % traits.block_size != 0)
    throw Error(ErrorCode::unsupported_model,
                "the embedding is " + std::string(traits.name) + ", which this kernel does not read");
  launch(config, embed_quantized_kernel, static_cast<const std::uint8_t*>(table), dtype,
         static_cast<std::int64_t>(row_bytes(dtype, static_cast<std::size_t>(hidden))), vocab, hidden, tokens,
         x);
}

}  // namespace cria::cuda
