#include "kernels/cpu/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"

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

// ---- weights: simple fits
// ----------------------------------------------------------------------------------------

/// The nearest half, saturated: a weight's scale never becomes infinite.
std::uint16_t scale_near(float value) { return f32_to_f16(std::clamp(value, -65504.0f, 65504.0f)); }

/// The least half that is not below `value` >= 0, saturated: codes computed from it never exceed their range.
std::uint16_t scale_above(float value) {
  std::uint16_t half = scale_near(value);
  if (f16_to_f32(half) < value && half < 0x7bff) half++;
  return half;
}

float inverse_of(float value) { return value == 0.0f ? 0.0f : 1.0f / value; }

/// round(value) + offset, kept in 0..max. `value` is not NaN.
int level(float value, int offset, int max) {
  return static_cast<int>(
      std::clamp(std::round(value) + static_cast<float>(offset), 0.0f, static_cast<float>(max)));
}

float extreme_of(const float* x, int n) {
  return *std::max_element(x, x + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
}

/// Index of the codebook's value nearest to `value`.
int nearest_iq4(float value) {
  int index = 0;
  while (index < 15 && value > 0.5f * static_cast<float>(kIq4Values[index] + kIq4Values[index + 1])) index++;
  return index;
}

/// Writes two nibbles a byte: values j and j + 16 of 32.
void pack_nibbles(const int q[32], std::uint8_t* qs) {
  for (int j = 0; j < 16; j++) qs[j] = static_cast<std::uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

void pack_fifth_bits(const int q[32], std::uint8_t* qh) {
  std::uint32_t bits = 0;
  for (int j = 0; j < 32; j++) bits |= static_cast<std::uint32_t>(q[j] >> 4 & 1) << j;
  std::memcpy(qh, &bits, 4);
}

/// Q4_0, Q5_0: the extreme value becomes level 0, which is one step further from zero than the highest level.
std::uint16_t fit_signed(const float* x, int zero_level, int q[32]) {
  const std::uint16_t d = scale_near(extreme_of(x, 32) / static_cast<float>(-zero_level));
  const float inverse = inverse_of(f16_to_f32(d));
  for (int j = 0; j < 32; j++) q[j] = level(x[j] * inverse, zero_level, 2 * zero_level - 1);
  return d;
}

/// Q4_1, Q5_1: levels from the least to the greatest value.
void fit_affine(const float* x, int max_level, int q[32], std::uint16_t& d, std::uint16_t& m) {
  const auto [least, greatest] = std::minmax_element(x, x + 32);
  m = scale_near(*least);
  const float base = f16_to_f32(m);
  d = scale_near(std::max(0.0f, *greatest - base) / static_cast<float>(max_level));
  const float inverse = inverse_of(f16_to_f32(d));
  for (int j = 0; j < 32; j++) q[j] = level((x[j] - base) * inverse, 0, max_level);
}

void compress(const float* x, BlockQ4_0& b) {
  int q[32];
  b.d = fit_signed(x, 8, q);
  pack_nibbles(q, b.qs);
}

void compress(const float* x, BlockQ4_1& b) {
  int q[32];
  fit_affine(x, 15, q, b.d, b.m);
  pack_nibbles(q, b.qs);
}

void compress(const float* x, BlockQ5_0& b) {
  int q[32];
  b.d = fit_signed(x, 16, q);
  pack_nibbles(q, b.qs);
  pack_fifth_bits(q, b.qh);
}

void compress(const float* x, BlockQ5_1& b) {
  int q[32];
  fit_affine(x, 31, q, b.d, b.m);
  pack_nibbles(q, b.qs);
  pack_fifth_bits(q, b.qh);
}

void compress(const float* x, BlockIQ4_NL& b) {
  int q[32];
  b.d = scale_near(extreme_of(x, 32) / -127.0f);
  const float inverse = inverse_of(f16_to_f32(b.d));
  for (int j = 0; j < 32; j++) q[j] = nearest_iq4(x[j] * inverse);
  pack_nibbles(q, b.qs);
}

/// Super-blocks without mins: signed integer scales of the groups, magnitudes up to `max_code`, times one
/// half. The codes are rounded up, so that each group's extreme value stays within its levels.
struct SignedGroups {
  std::uint16_t d = 0;
  int codes[16] = {};
  float inverse[16] = {};  // of each group's step

  SignedGroups(const float* x, int groups, float extreme_level, int max_code) {
    const int size = kSuperBlockSize / groups;
    float steps[16];
    float largest = 0;
    for (int g = 0; g < groups; g++) {
      steps[g] = extreme_of(x + g * size, size) / extreme_level;
      largest = std::max(largest, std::fabs(steps[g]));
    }
    d = scale_above(largest / static_cast<float>(max_code));
    const float unit = f16_to_f32(d), inverse_unit = inverse_of(unit);
    for (int g = 0; g < groups; g++) {
      const float code =
          std::min(std::ceil(std::fabs(steps[g]) * inverse_unit), static_cast<float>(max_code));
      codes[g] = static_cast<int>(steps[g] < 0 ? -code : code);
      inverse[g] = inverse_of(unit * static_cast<float>(codes[g]));
    }
  }
};

/// Super-blocks with mins: both the scales and the mins of the groups are unsigned codes, rounded up as
/// above.
struct AffineGroups {
  std::uint16_t d = 0, dmin = 0;
  int scales[16] = {}, mins[16] = {};
  float inverse[16] = {}, offset[16] = {};

  AffineGroups(const float* x, int groups, int max_level, int max_code) {
    const int size = kSuperBlockSize / groups;
    const float most = static_cast<float>(max_code);
    float depths[16], tops[16], steps[16];
    for (int g = 0; g < groups; g++) {
      const auto [least, greatest] = std::minmax_element(x + g * size, x + (g + 1) * size);
      depths[g] = std::max(0.0f, -*least);
      tops[g] = *greatest;
    }
    dmin = scale_above(*std::max_element(depths, depths + groups) / most);
    const float unit_min = f16_to_f32(dmin), inverse_min = inverse_of(unit_min);
    for (int g = 0; g < groups; g++) {
      mins[g] = static_cast<int>(std::min(std::ceil(depths[g] * inverse_min), most));
      offset[g] = unit_min * static_cast<float>(mins[g]);
      steps[g] = std::max(0.0f, tops[g] + offset[g]) / static_cast<float>(max_level);
    }
    d = scale_above(*std::max_element(steps, steps + groups) / most);
    const float unit = f16_to_f32(d), inverse_unit = inverse_of(unit);
    for (int g = 0; g < groups; g++) {
      scales[g] = static_cast<int>(std::min(std::ceil(steps[g] * inverse_unit), most));
      inverse[g] = inverse_of(unit * static_cast<float>(scales[g]));
    }
  }
};

void set_bits(std::uint8_t& byte, int value, int shift) {
  byte = static_cast<std::uint8_t>(byte | value << shift);
}

void compress(const float* x, BlockQ2_K& b) {
  std::memset(&b, 0, sizeof b);
  const AffineGroups fit(x, 16, 3, 15);
  b.d = fit.d;
  b.dmin = fit.dmin;
  for (int g = 0; g < 16; g++) b.scales[g] = static_cast<std::uint8_t>(fit.scales[g] | fit.mins[g] << 4);
  for (int e = 0; e < 256; e++) {
    const int q = level((x[e] + fit.offset[e / 16]) * fit.inverse[e / 16], 0, 3);
    set_bits(b.qs[32 * (e / 128) + e % 32], q, 2 * (e % 128 / 32));
  }
}

void compress(const float* x, BlockQ3_K& b) {
  std::memset(&b, 0, sizeof b);
  const SignedGroups fit(x, 16, -4.0f, 31);
  b.d = fit.d;
  for (int g = 0; g < 16; g++) {
    const int code = fit.codes[g] + 32;
    set_bits(b.scales[g % 8], code & 15, 4 * (g / 8));
    set_bits(b.scales[8 + g % 4], code >> 4, 2 * (g / 4));
  }
  for (int e = 0; e < 256; e++) {
    const int q = level(x[e] * fit.inverse[e / 16], 4, 7);
    set_bits(b.qs[32 * (e / 128) + e % 32], q & 3, 2 * (e % 128 / 32));
    set_bits(b.hmask[e % 32], q >> 2, e / 32);
  }
}

/// The inverse of k4_scales().
void pack_k4_scales(const int* scales, const int* mins, std::uint8_t* packed) {
  for (int g = 0; g < 4; g++) {
    set_bits(packed[g], scales[g], 0);
    set_bits(packed[g + 4], mins[g], 0);
  }
  for (int g = 4; g < 8; g++) {
    packed[g + 4] = static_cast<std::uint8_t>((scales[g] & 15) | (mins[g] & 15) << 4);
    set_bits(packed[g - 4], scales[g] >> 4, 6);
    set_bits(packed[g], mins[g] >> 4, 6);
  }
}

void compress(const float* x, BlockQ4_K& b) {
  std::memset(&b, 0, sizeof b);
  const AffineGroups fit(x, 8, 15, 63);
  b.d = fit.d;
  b.dmin = fit.dmin;
  pack_k4_scales(fit.scales, fit.mins, b.scales);
  for (int e = 0; e < 256; e++) {
    const int q = level((x[e] + fit.offset[e / 32]) * fit.inverse[e / 32], 0, 15);
    set_bits(b.qs[32 * (e / 64) + e % 32], q, 4 * (e / 32 % 2));
  }
}

void compress(const float* x, BlockQ5_K& b) {
  std::memset(&b, 0, sizeof b);
  const AffineGroups fit(x, 8, 31, 63);
  b.d = fit.d;
  b.dmin = fit.dmin;
  pack_k4_scales(fit.scales, fit.mins, b.scales);
  for (int e = 0; e < 256; e++) {
    const int q = level((x[e] + fit.offset[e / 32]) * fit.inverse[e / 32], 0, 31);
    set_bits(b.qs[32 * (e / 64) + e % 32], q & 15, 4 * (e / 32 % 2));
    set_bits(b.qh[e % 32], q >> 4, e / 32);
  }
}

void compress(const float* x, BlockQ6_K& b) {
  std::memset(&b, 0, sizeof b);
  const SignedGroups fit(x, 16, -32.0f, 127);
  b.d = fit.d;
  for (int g = 0; g < 16; g++) b.scales[g] = static_cast<std::int8_t>(fit.codes[g]);
  for (int e = 0; e < 256; e++) {
    const int q = level(x[e] * fit.inverse[e / 16], 32, 63);
    const int half = e / 128, k = e % 128 / 32, i = e % 32;
    set_bits(b.ql[64 * half + 32 * (k % 2) + i], q & 15, 4 * (k / 2));
    set_bits(b.qh[32 * half + i], q >> 4, 2 * k);
  }
}

void compress(const float* x, BlockIQ4_XS& b) {
  std::memset(&b, 0, sizeof b);
  const SignedGroups fit(x, 8, -127.0f, 31);
  b.d = fit.d;
  for (int g = 0; g < 8; g++) {
    const int code = fit.codes[g] + 32;
    set_bits(b.scales_l[g / 2], code & 15, 4 * (g % 2));
    b.scales_h = static_cast<std::uint16_t>(b.scales_h | (code >> 4) << (2 * g));
    int q[32];
    for (int j = 0; j < 32; j++) q[j] = nearest_iq4(x[32 * g + j] * fit.inverse[g]);
    pack_nibbles(q, b.qs + 16 * g);
  }
}

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
  for (std::int64_t i = 0; i < n / kElements; i++) {
    const float* x = src + i * kElements;
    if (all_finite(x, kElements)) {
      compress(x, blocks[i]);
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
