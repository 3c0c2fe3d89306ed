#include "kernels/cpu/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"
#include "kernels/quantize_blocks.h"

namespace cria {
namespace {

constexpr std::uint16_t kNanF16 = 0x7e00;
constexpr std::uint32_t kNanF32 = 0x7fc00000;
constexpr std::uint32_t kInfinityF32 = 0x7f800000;

// ---- activations: these lines define the bits (see quantize.h)
// ---------------------------------------------------

/// Largest magnitude as bits: ordered like the magnitudes, with infinity and NaN above all finite ones.
std::uint32_t max_magnitude_bits(const float* x, int n) {
  std::uint32_t most = 0;
  for (int i = 0; i < n; i++) most = std::max(most, float_bits(x[i]) & 0x7fffffffu);
  return most;
}

bool all_finite(const float* x, int n) { return max_magnitude_bits(x, n) < kInfinityF32; }

/// The 32 quants and the scale before its rounding to binary16; false when the block is not finite.
bool quantize_32(const float* x, std::int8_t* qs, float& d) {
  const std::uint32_t most = max_magnitude_bits(x, 32);
  if (most >= kInfinityF32) {
    std::memset(qs, 0, 32);
    return false;
  }
  d = float_from_bits(most) / 127.0f;
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
  std::uint32_t most = 0;
  for (int j = 0; j < 256; j++) {
    const std::uint32_t magnitude = float_bits(x[j]) & 0x7fffffffu;
    if (magnitude > most) {
      most = magnitude;
      extreme = x[j];
    }
  }
  if (most >= kInfinityF32) {
    b.d = float_from_bits(kNanF32);
    return;
  }
  if (most == 0) return;
  const float inverse = -127.0f / extreme;
  if ((float_bits(inverse) & 0x7fffffffu) >= kInfinityF32) return;
  for (int j = 0; j < 256; j++)
    b.qs[j] = static_cast<std::int8_t>(std::min(127, round_half_even(inverse * x[j])));
  for (int j = 0; j < 256; j++) b.bsums[j / 16] = static_cast<std::int16_t>(b.bsums[j / 16] + b.qs[j]);
  b.d = 1.0f / inverse;
}

struct HostMachine {
  static std::uint16_t to_f16(float x) { return f32_to_f16(x); }
  static float from_f16(std::uint16_t bits) { return f16_to_f32(bits); }
  static float iq4_value(int index) { return static_cast<float>(kIq4Values[index]); }
};

// ---- rows
// --------------------------------------------------------------------------------------------------------

template <typename Block, int kElements>
void compress_row(const float* src, void* dst, std::int64_t n) {
  auto* blocks = static_cast<Block*>(dst);
  for (std::int64_t i = 0; i < n / kElements; i++) compress(src + i * kElements, blocks[i]);
}

template <typename Block, int kElements>
void compress_weights(const float* src, void* dst, std::int64_t n) {
  auto* blocks = static_cast<Block*>(dst);
  GroupFits fits;
  for (std::int64_t i = 0; i < n / kElements; i++) {
    const float* x = src + i * kElements;
    if (all_finite(x, kElements)) {
      BlockQuantizer<HostMachine>::compress(x, blocks[i], fits);
    } else {
      std::memset(&blocks[i], 0, sizeof(Block));
      blocks[i].d = kNanF16;
    }
  }
}

}  // namespace

DType activation_dtype(DType weight) {
  switch (weight) {
    case DType::f32: return DType::f32;
    case DType::f16: return DType::f16;
    case DType::bf16: return DType::bf16;
    case DType::q4_0:
    case DType::q5_0:
    case DType::q8_0:
    case DType::iq4_nl: return DType::q8_0;
    case DType::q4_1:
    case DType::q5_1: return DType::q8_1;
    case DType::q2_k:
    case DType::q3_k:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k:
    case DType::iq4_xs: return DType::q8_k;
    case DType::q8_1:
    case DType::q8_k: break;
  }
  throw Error(ErrorCode::invalid_argument,
              "activation_dtype: no weight is of type " + std::string(name_of(weight)));
}

void quantize_row(DType dtype, const float* src, void* dst, std::int64_t n) {
  const std::int64_t block_size = traits_of(dtype).block_size;
  if (n < 0 || n % block_size != 0)
    throw Error(ErrorCode::invalid_argument,
                "quantize_row: a row of " + std::string(name_of(dtype)) + " has a multiple of " +
                    std::to_string(block_size) + " elements, not " + std::to_string(n),
                {{"expected", static_cast<double>(block_size)}, {"found", static_cast<double>(n)}});
  switch (dtype) {
    case DType::f32:
      if (n > 0) std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < n; i++) static_cast<std::uint16_t*>(dst)[i] = f32_to_f16(src[i]);
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < n; i++) static_cast<std::uint16_t*>(dst)[i] = f32_to_bf16(src[i]);
      return;
    case DType::q8_0: return compress_row<BlockQ8_0, 32>(src, dst, n);
    case DType::q8_1: return compress_row<BlockQ8_1, 32>(src, dst, n);
    case DType::q8_k: return compress_row<BlockQ8_K, 256>(src, dst, n);
    case DType::q4_0: return compress_weights<BlockQ4_0, 32>(src, dst, n);
    case DType::q4_1: return compress_weights<BlockQ4_1, 32>(src, dst, n);
    case DType::q5_0: return compress_weights<BlockQ5_0, 32>(src, dst, n);
    case DType::q5_1: return compress_weights<BlockQ5_1, 32>(src, dst, n);
    case DType::iq4_nl: return compress_weights<BlockIQ4_NL, 32>(src, dst, n);
    case DType::q2_k: return compress_weights<BlockQ2_K, 256>(src, dst, n);
    case DType::q3_k: return compress_weights<BlockQ3_K, 256>(src, dst, n);
    case DType::q4_k: return compress_weights<BlockQ4_K, 256>(src, dst, n);
    case DType::q5_k: return compress_weights<BlockQ5_K, 256>(src, dst, n);
    case DType::q6_k: return compress_weights<BlockQ6_K, 256>(src, dst, n);
    case DType::iq4_xs: return compress_weights<BlockIQ4_XS, 256>(src, dst, n);
  }
  throw Error(ErrorCode::internal, "quantize_row: unknown element type");
}

}  // namespace cria
