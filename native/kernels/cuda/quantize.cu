// Activations' types: a warp has a block, so that reads and writes are those of neighbours. Weights' types,
// which are for tests and benchmarks: a thread has a block, and its groups' steps lie in shared memory.
#include <string>

#include "core/error.h"
#include "kernels/cuda/dequantize.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx_convert.cuh"
#include "kernels/cuda/quantize.h"
#include "kernels/quantize_blocks.h"

namespace cria::cuda {
namespace {

constexpr int kQuantizeThreads = 256, kBlockThreads = 32;
constexpr uint16_t kNanHalf = 0x7e00;

CRIA_DEVICE uint32_t magnitude_of(float x) { return bits_of(x) & 0x7fffffffu; }
CRIA_DEVICE bool is_finite_magnitude(uint32_t bits) { return bits < 0x7f800000u; }

// The conversion instructions change a NaN's bits; core/float_bits.h keeps its sign and the upper payload.

CRIA_DEVICE uint16_t to_f16(float x) {
  const uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7e00u | (magnitude >> 13 & 0x1ffu));
  return float_to_f16(x);
}
CRIA_DEVICE uint16_t to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return float_to_bf16(x);
}

struct QuantizeBlocksShared {
  SharedArray<GroupFits, kBlockThreads> fits;
};

}  // namespace

template <bool kBf16>
static __global__ void __launch_bounds__(kQuantizeThreads)
    quantize_half_kernel(const float* x, int64_t n, uint16_t* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kQuantizeThreads + thread_in_block();
  if (i < n) out[i] = kBf16 ? to_bf16(x[i]) : to_f16(x[i]);
}

// Q8_0 and Q8_1: lane l has element l.
static __global__ void __launch_bounds__(kQuantizeThreads)
    quantize_q8_kernel(const float* x, int64_t n_blocks, uint8_t* out, bool with_sum) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * (kQuantizeThreads / kWarpSize) + warp_in_block();
  if (block >= n_blocks) return;  // the whole warp
  const float value = x[block * 32 + lane_in_warp()];
  const uint32_t amax = warp_max(magnitude_of(value));
  const bool finite = is_finite_magnitude(amax);
  const float d = float_of_bits(amax) / 127.0f;
  float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  if (!finite || !is_finite_magnitude(bits_of(inverse))) inverse = 0.0f;
  const int q = finite ? static_cast<int>(roundf(value * inverse)) : 0;
  const int sum = warp_sum(q);
  const int header = with_sum ? 4 : 2;
  uint8_t* to = out + block * (header + 32);
  to[header + lane_in_warp()] = static_cast<uint8_t>(q);
  if (lane_in_warp() != 0) return;
  auto* scales = reinterpret_cast<uint16_t*>(to);
  scales[0] = finite ? float_to_f16(d) : kNanHalf;
  if (with_sum) scales[1] = finite ? float_to_f16(d * static_cast<float>(sum)) : kNanHalf;
}

// Q8_K: lane l has elements l, l + 32, ..., so a half warp has a group of 16 at a time.
static __global__ void __launch_bounds__(kQuantizeThreads)
    quantize_q8_k_kernel(const float* x, int64_t n_blocks, BlockQ8_K* out) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * (kQuantizeThreads / kWarpSize) + warp_in_block();
  if (block >= n_blocks) return;  // the whole warp
  const int lane = lane_in_warp();
  const float* from = x + block * 256;
  float value[8];
  uint32_t amax = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    value[i] = from[32 * i + lane];
    amax = max(amax, magnitude_of(value[i]));
  }
  amax = warp_max(amax);
  // The value of largest magnitude, the first among equals.
  uint32_t index = 256;
#pragma unroll
  for (int i = 7; i >= 0; i--)
    if (magnitude_of(value[i]) == amax) index = static_cast<uint32_t>(32 * i + lane);
  index = warp_min(index);
  const bool finite = is_finite_magnitude(amax);
  const float inverse = finite && amax != 0 ? -127.0f / from[index] : 0.0f;
  const bool usable = inverse != 0.0f && is_finite_magnitude(magnitude_of(inverse));
  BlockQ8_K& to = out[block];
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const int q = usable ? min(127, __float2int_rn(inverse * value[i])) : 0;
    to.qs[32 * i + lane] = static_cast<int8_t>(q);
    int sum = q;
    for (int step = 8; step; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
    if (lane % 16 == 0) to.bsums[2 * i + lane / 16] = static_cast<int16_t>(sum);
  }
  if (lane == 0) to.d = !finite ? float_of_bits(0x7fc00000u) : usable ? 1.0f / inverse : 0.0f;
}

template <class Block, int kElements>
static __global__ void __launch_bounds__(kBlockThreads)
    quantize_blocks_kernel(const float* x, int64_t n_blocks, Block* out) {
  QuantizeBlocksShared& shared = shared_memory<QuantizeBlocksShared>();
  const int64_t block = static_cast<int64_t>(blockIdx.x) * kBlockThreads + thread_in_block();
  if (block >= n_blocks) return;
  const float* from = x + block * kElements;
  Block& to = out[block];
  bool finite = true;
  for (int i = 0; i < kElements; i++) finite = finite && is_finite_magnitude(magnitude_of(from[i]));
  if (finite) {
    BlockQuantizer<DeviceMachine>::compress(from, to, shared.fits[thread_in_block()]);
    return;
  }
  for (int i = 0; i < static_cast<int>(sizeof(Block)); i++) reinterpret_cast<uint8_t*>(&to)[i] = 0;
  to.d = kNanHalf;
}

namespace {

/// Elements, activations' types, and the types of weights that quantize_blocks.h has a quantizer for.
template <class Block>
constexpr bool kHasQuantizer =
    Block::kElements == 1 || !traits_of(Block::kType).is_weight || Block::kType == DType::q8_0 ||
    requires(const float* x, Block& b, GroupFits& fits) {
      BlockQuantizer<DeviceMachine>::compress(x, b, fits);
    };

LaunchConfig config_of(std::int64_t n, int at_once, int threads, Stream stream) {
  return {.name = "quantize",
          .grid = {static_cast<unsigned>((n + at_once - 1) / at_once)},
          .block = {static_cast<unsigned>(threads)},
          .stream = stream};
}

}  // namespace

// Activations' types have kernels of their own.

static void quantize_elements(const float* x, std::int64_t n, ElementF32* out, Stream stream) {
  copy_on_device(out, x, static_cast<std::size_t>(n) * sizeof(float), stream);
}
static void quantize_elements(const float* x, std::int64_t n, ElementF16* out, Stream stream) {
  launch(config_of(n, kQuantizeThreads, kQuantizeThreads, stream), quantize_half_kernel<false>, x, n,
         &out->bits);
}
static void quantize_elements(const float* x, std::int64_t n, ElementBF16* out, Stream stream) {
  launch(config_of(n, kQuantizeThreads, kQuantizeThreads, stream), quantize_half_kernel<true>, x, n,
         &out->bits);
}
static void quantize_q8(const float* x, std::int64_t n, void* out, bool with_sum, Stream stream) {
  launch(config_of(n / 32, kQuantizeThreads / kWarpSize, kQuantizeThreads, stream), quantize_q8_kernel, x,
         n / 32, static_cast<uint8_t*>(out), with_sum);
}
static void quantize_elements(const float* x, std::int64_t n, BlockQ8_0* out, Stream stream) {
  quantize_q8(x, n, out, false, stream);
}
static void quantize_elements(const float* x, std::int64_t n, BlockQ8_1* out, Stream stream) {
  quantize_q8(x, n, out, true, stream);
}
static void quantize_elements(const float* x, std::int64_t n, BlockQ8_K* out, Stream stream) {
  launch(config_of(n / 256, kQuantizeThreads / kWarpSize, kQuantizeThreads, stream), quantize_q8_k_kernel, x,
         n / 256, out);
}
template <class Block>
static void quantize_elements(const float* x, std::int64_t n, Block* out, Stream stream) {
  const std::int64_t blocks = n / Block::kElements;
  launch(config_of(blocks, kBlockThreads, kBlockThreads, stream),
         quantize_blocks_kernel<Block, Block::kElements>, x, blocks, out);
}

void quantize(DType dtype, const float* x, std::int64_t n, void* out, Stream stream) {
  if (n == 0) return;
  visit_dtype(dtype, [=](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (kHasQuantizer<Block>)
      quantize_elements(x, n, static_cast<Block*>(out), stream);
    else
      throw Error(ErrorCode::invalid_argument,
                  "quantize: there is no quantizer for " + std::string(name_of(dtype)));
  });
}

}  // namespace cria::cuda
