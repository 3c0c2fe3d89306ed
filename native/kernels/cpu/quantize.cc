#include "kernels/cpu/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"
#include "kernels/host_machine.h"
#include "kernels/quantize_blocks.h"

namespace cria {
namespace {

constexpr std::uint16_t kNanF16 = 0x7e00;
constexpr std::uint32_t kNanF32 = 0x7fc00000;
constexpr std::uint32_t kInfinityF32 = 0x7f800000;

// ---- activations: these lines define the bits (see quantize.h) ----

/// Largest magnitude as bits: ordered like the magnitudes, with infinity and NaN above all finite ones.
std::uint32_t max_magnitude_bits(const float* x, int n) {
  std::uint32_t max = 0;
  for (int i = 0; i < n; i++) max = std::max(max, float_bits(x[i]) & 0x7fffffffu);
  return max;
}

bool all_finite(const float* x, int n) { return max_magnitude_bits(x, n) < kInfinityF32; }

/// The 32 quants and the scale before its rounding to binary16; false when the block is not finite.
bool quantize_32(const float* x, std::int8_t* qs, float& d) {
  const std::uint32_t max = max_magnitude_bits(x, 32);
  if (max >= kInfinityF32) {
    std::memset(qs, 0, 32);
    return false;
  }
  d = float_from_bits(max) / 127.0f;
  float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  if (float_bits(inverse) >= kInfinityF32) inverse = 0.0f;
  for (int j = 0; j < 32; j++) qs[j] = static_cast<std::int8_t>(std::round(x[j] * inverse));
  return true;
}

void compress(const float* x, BlockQ8_0& b) {
  float d = 0;
  b.d = quantize_32(x, b.qs, d) ? f32_to_f16(d) : kNanF16;
}

void compress(const float* x, BlockQ8_1& b) {
  float d = 0;
  if (!quantize_32(x, b.qs, d)) {
    b.d = b.s = kNanF16;
    return;
  }
  int sum = 0;
  for (int j = 0; j < 32; j++) sum += b.qs[j];
  b.d = f32_to_f16(d);
  b.s = f32_to_f16(d * static_cast<float>(sum));
}

/// Nearest integer, halves to even, for |value| < 2^22: adding 1.5 * 2^23 leaves the integer in the low
/// mantissa bits.
int round_half_even(float value) {
  return static_cast<int>(float_bits(value + 0x1.8p23f) & 0x7fffffu) - 0x400000;
}

void compress(const float* x, BlockQ8_K& b) {
  std::memset(&b, 0, sizeof b);
  float extreme = 0;
  std::uint32_t max = 0;
  for (int j = 0; j < 256; j++) {
    const std::uint32_t magnitude = float_bits(x[j]) & 0x7fffffffu;
    if (magnitude > max) {
      max = magnitude;
      extreme = x[j];
    }
  }
  if (max >= kInfinityF32) {
    b.d = float_from_bits(kNanF32);
    return;
  }
  if (max == 0) return;
  const float inverse = -127.0f / extreme;
  if ((float_bits(inverse) & 0x7fffffffu) >= kInfinityF32) return;
  for (int j = 0; j < 256; j++)
    b.qs[j] = static_cast<std::int8_t>(std::min(127, round_half_even(inverse * x[j])));
  for (int j = 0; j < 256; j++) b.bsums[j / 16] = static_cast<std::int16_t>(b.bsums[j / 16] + b.qs[j]);
  b.d = 1.0f / inverse;
}

// ---- rows ----

void quantize_elements(const float* src, ElementF32* dst, std::int64_t n) {
  if (n > 0) std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
}
void quantize_elements(const float* src, ElementF16* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) dst[i].bits = f32_to_f16(src[i]);
}
void quantize_elements(const float* src, ElementBF16* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i++) dst[i].bits = f32_to_bf16(src[i]);
}

/// A type that activations take too: its bits are defined above.
template <class Block>
concept ActivationBlock = requires(const float* x, Block& b) { compress(x, b); };
/// A type of weights that quantize_blocks.h has a quantizer for.
template <class Block>
concept QuantizedBlock = requires(const float* x, Block& b, GroupFits& fits) {
  BlockQuantizer<HostMachine>::compress(x, b, fits);
};

template <class Block>
void quantize_elements(const float* src, Block* dst, std::int64_t n) {
  GroupFits fits;
  for (std::int64_t i = 0; i < n / Block::kElements; i++) {
    const float* x = src + i * Block::kElements;
    if constexpr (ActivationBlock<Block>) {
      compress(x, dst[i]);
    } else if (all_finite(x, Block::kElements)) {
      BlockQuantizer<HostMachine>::compress(x, dst[i], fits);
    } else {
      std::memset(&dst[i], 0, sizeof(Block));
      dst[i].d = kNanF16;
    }
  }
}

template <class Block>
constexpr bool kHasQuantizer = Block::kElements == 1 || ActivationBlock<Block> || QuantizedBlock<Block>;

}  // namespace

DType activation_dtype(DType weight) {
  const DTypeTraits& traits = traits_of(weight);
  if (traits.is_weight) return traits.activation;
  throw Error(ErrorCode::invalid_argument,
              "activation_dtype: no weight is of type " + std::string(traits.name));
}

bool has_quantizer(DType dtype) {
  return visit_dtype(dtype, [](auto format) { return kHasQuantizer<typename decltype(format)::Block>; });
}

void quantize_row(DType dtype, const float* src, void* dst, std::int64_t n) {
  const std::int64_t block_size = traits_of(dtype).block_size;
  if (n < 0 || n % block_size != 0)
    throw Error(ErrorCode::invalid_argument,
                "quantize_row: a row of " + std::string(name_of(dtype)) + " has a multiple of " +
                    std::to_string(block_size) + " elements, not " + std::to_string(n),
                {{"expected", block_size}, {"found", n}});
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (kHasQuantizer<Block>)
      quantize_elements(src, static_cast<Block*>(dst), n);
    else
      throw Error(ErrorCode::invalid_argument,
                  "quantize_row: there is no quantizer for " + std::string(name_of(dtype)));
  });
}

}  // namespace cria
