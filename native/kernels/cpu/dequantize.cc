#include "kernels/cpu/dequantize.h"

#include <cstring>
#include <string>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"

namespace cria {
namespace {

// One overload per block: writes its 32 or 256 values.

void expand(const BlockQ4_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = d * static_cast<float>((b.qs[j] & 15) - 8);
    y[j + 16] = d * static_cast<float>((b.qs[j] >> 4) - 8);
  }
}

void expand(const BlockQ4_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  for (int j = 0; j < 16; j++) {
    y[j] = d * static_cast<float>(b.qs[j] & 15) + m;
    y[j + 16] = d * static_cast<float>(b.qs[j] >> 4) + m;
  }
}

void expand(const BlockQ5_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  const std::uint32_t high = q5_high_bits(b.qh);
  for (int j = 0; j < 16; j++) {
    const int low_q = (b.qs[j] & 15) | static_cast<int>((high >> j) & 1u) << 4;
    const int high_q = (b.qs[j] >> 4) | static_cast<int>((high >> (j + 16)) & 1u) << 4;
    y[j] = d * static_cast<float>(low_q - 16);
    y[j + 16] = d * static_cast<float>(high_q - 16);
  }
}

void expand(const BlockQ5_1& b, float* y) {
  const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
  const std::uint32_t high = q5_high_bits(b.qh);
  for (int j = 0; j < 16; j++) {
    const int low_q = (b.qs[j] & 15) | static_cast<int>((high >> j) & 1u) << 4;
    const int high_q = (b.qs[j] >> 4) | static_cast<int>((high >> (j + 16)) & 1u) << 4;
    y[j] = d * static_cast<float>(low_q) + m;
    y[j + 16] = d * static_cast<float>(high_q) + m;
  }
}

void expand(const BlockQ8_0& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(b.qs[j]);
}

void expand(const BlockQ8_1& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 32; j++) y[j] = d * static_cast<float>(b.qs[j]);
}

void expand(const BlockIQ4_NL& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int j = 0; j < 16; j++) {
    y[j] = d * static_cast<float>(kIq4Values[b.qs[j] & 15]);
    y[j + 16] = d * static_cast<float>(kIq4Values[b.qs[j] >> 4]);
  }
}

void expand(const BlockQ2_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  for (int g = 0; g < 16; g++) {
    const float scale = d * static_cast<float>(b.scales[g] & 15);
    const float min = dmin * static_cast<float>(b.scales[g] >> 4);
    const std::uint8_t* qs = b.qs + 32 * (g / 8) + 16 * (g % 2);
    const int shift = 2 * (g % 8 / 2);
    for (int j = 0; j < 16; j++) y[16 * g + j] = scale * static_cast<float>((qs[j] >> shift) & 3) - min;
  }
}

void expand(const BlockQ3_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  std::int8_t scales[16];
  q3_k_scales(b.scales, scales);
  for (int g = 0; g < 16; g++) {
    const float scale = d * static_cast<float>(scales[g]);
    const std::uint8_t* qs = b.qs + 32 * (g / 8) + 16 * (g % 2);
    const std::uint8_t* hmask = b.hmask + 16 * (g % 2);
    const int shift = 2 * (g % 8 / 2);
    for (int j = 0; j < 16; j++) {
      const int q = ((qs[j] >> shift) & 3) | ((hmask[j] >> (g / 2)) & 1) << 2;
      y[16 * g + j] = scale * static_cast<float>(q - 4);
    }
  }
}

void expand(const BlockQ4_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  std::uint8_t scales[8], mins[8];
  k4_scales(b.scales, scales, mins);
  for (int g = 0; g < 8; g++) {
    const float scale = d * static_cast<float>(scales[g]);
    const float min = dmin * static_cast<float>(mins[g]);
    const std::uint8_t* qs = b.qs + 32 * (g / 2);
    for (int j = 0; j < 32; j++) {
      const int q = (qs[j] >> (4 * (g % 2))) & 15;
      y[32 * g + j] = scale * static_cast<float>(q) - min;
    }
  }
}

void expand(const BlockQ5_K& b, float* y) {
  const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
  std::uint8_t scales[8], mins[8];
  k4_scales(b.scales, scales, mins);
  for (int g = 0; g < 8; g++) {
    const float scale = d * static_cast<float>(scales[g]);
    const float min = dmin * static_cast<float>(mins[g]);
    const std::uint8_t* qs = b.qs + 32 * (g / 2);
    for (int j = 0; j < 32; j++) {
      const int q = ((qs[j] >> (4 * (g % 2))) & 15) | ((b.qh[j] >> g) & 1) << 4;
      y[32 * g + j] = scale * static_cast<float>(q) - min;
    }
  }
}

void expand(const BlockQ6_K& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int g = 0; g < 16; g++) {
    const float scale = d * static_cast<float>(b.scales[g]);
    const int half = g / 8, k = g % 8 / 2, first = 16 * (g % 2);
    const std::uint8_t* ql = b.ql + 64 * half + 32 * (k % 2) + first;
    const std::uint8_t* qh = b.qh + 32 * half + first;
    for (int j = 0; j < 16; j++) {
      const int q = ((ql[j] >> (4 * (k / 2))) & 15) | ((qh[j] >> (2 * k)) & 3) << 4;
      y[16 * g + j] = scale * static_cast<float>(q - 32);
    }
  }
}

void expand(const BlockQ8_K& b, float* y) {
  for (int j = 0; j < 256; j++) y[j] = b.d * static_cast<float>(b.qs[j]);
}

void expand(const BlockIQ4_XS& b, float* y) {
  const float d = f16_to_f32(b.d);
  for (int g = 0; g < 8; g++) {
    const float scale = d * static_cast<float>(iq4_xs_scale(b, g));
    const std::uint8_t* qs = b.qs + 16 * g;
    for (int j = 0; j < 16; j++) {
      y[32 * g + j] = scale * static_cast<float>(kIq4Values[qs[j] & 15]);
      y[32 * g + j + 16] = scale * static_cast<float>(kIq4Values[qs[j] >> 4]);
    }
  }
}

template <typename Block, int kElements>
void expand_row(const void* src, float* dst, std::int64_t n) {
  const auto* blocks = static_cast<const Block*>(src);
  for (std::int64_t i = 0; i < n / kElements; i++) expand(blocks[i], dst + i * kElements);
}

}  // namespace

void dequantize_row(DType dtype, const void* src, float* dst, std::int64_t n) {
  const std::int64_t block_size = traits_of(dtype).block_size;
  if (n < 0 || n % block_size != 0)
    throw Error(ErrorCode::invalid_argument,
                "dequantize_row: a row of " + std::string(name_of(dtype)) + " has a multiple of " +
                    std::to_string(block_size) + " elements, not " + std::to_string(n),
                {{"expected", static_cast<double>(block_size)}, {"found", static_cast<double>(n)}});
  switch (dtype) {
    case DType::f32:
      if (n > 0) std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case DType::f16: {
      const auto* halves = static_cast<const std::uint16_t*>(src);
      for (std::int64_t i = 0; i < n; i++) dst[i] = f16_to_f32(halves[i]);
      return;
    }
    case DType::bf16: {
      const auto* halves = static_cast<const std::uint16_t*>(src);
      for (std::int64_t i = 0; i < n; i++) dst[i] = bf16_to_f32(halves[i]);
      return;
    }
    case DType::q4_0: return expand_row<BlockQ4_0, 32>(src, dst, n);
    case DType::q4_1: return expand_row<BlockQ4_1, 32>(src, dst, n);
    case DType::q5_0: return expand_row<BlockQ5_0, 32>(src, dst, n);
    case DType::q5_1: return expand_row<BlockQ5_1, 32>(src, dst, n);
    case DType::q8_0: return expand_row<BlockQ8_0, 32>(src, dst, n);
    case DType::q8_1: return expand_row<BlockQ8_1, 32>(src, dst, n);
    case DType::iq4_nl: return expand_row<BlockIQ4_NL, 32>(src, dst, n);
    case DType::q2_k: return expand_row<BlockQ2_K, 256>(src, dst, n);
    case DType::q3_k: return expand_row<BlockQ3_K, 256>(src, dst, n);
    case DType::q4_k: return expand_row<BlockQ4_K, 256>(src, dst, n);
    case DType::q5_k: return expand_row<BlockQ5_K, 256>(src, dst, n);
    case DType::q6_k: return expand_row<BlockQ6_K, 256>(src, dst, n);
    case DType::q8_k: return expand_row<BlockQ8_K, 256>(src, dst, n);
    case DType::iq4_xs: return expand_row<BlockIQ4_XS, 256>(src, dst, n);
  }
  throw Error(ErrorCode::internal, "dequantize_row: unknown element type");
}

}  // namespace cria
