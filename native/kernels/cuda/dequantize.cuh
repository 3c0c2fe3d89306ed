// One element of a row of weights as it lies in a GGUF file. The CPU's kernels/cpu/blocks.h defines the
// formats, and dequantize_row() the order of the float operations: the bits are the same. Slow, and right for
// any alignment: for rows of the embedding, and for checking.
#pragma once

#include "core/dtype.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx_convert.cuh"

namespace cria::cuda {

CRIA_DEVICE int load_u16(const uint8_t* p) { return p[0] | p[1] << 8; }
CRIA_DEVICE float load_f16(const uint8_t* p) { return f16_to_float(static_cast<uint16_t>(load_u16(p))); }

CRIA_DEVICE float load_f32_bytes(const uint8_t* p) {
  return float_of_bits(static_cast<uint32_t>(load_u16(p)) | static_cast<uint32_t>(load_u16(p + 2)) << 16);
}

/// The values of IQ4_NL and IQ4_XS.
CRIA_DEVICE float iq4_value(int q) {
  // -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
  const uint32_t words[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
  const uint32_t word = q < 8 ? (q < 4 ? words[0] : words[1]) : (q < 12 ? words[2] : words[3]);
  return static_cast<float>(static_cast<int8_t>(word >> 8 * (q & 3)));
}

/// Scale (or minimum) g of Q4_K and Q5_K, six bits.
CRIA_DEVICE int k4_scale(const uint8_t* packed, int g, bool minimum) {
  const int at = minimum ? 4 : 0;
  if (g < 4) return packed[g + at] & 63;
  return (minimum ? packed[g + 4] >> 4 : packed[g + 4] & 15) | packed[g - 4 + at] >> 6 << 4;
}
/// Scale g of Q3_K, -32 .. 31.
CRIA_DEVICE int q3_k_scale(const uint8_t* packed, int g) {
  const int low = g < 8 ? packed[g] & 15 : packed[g - 8] >> 4;
  return (low | (packed[8 + g % 4] >> 2 * (g / 4) & 3) << 4) - 32;
}

/// Element i of a row of `dtype`.
CRIA_DEVICE float dequantized(DType dtype, const uint8_t* row, int64_t i) {
  const int in32 = static_cast<int>(i % 32), e = static_cast<int>(i % 256);
  const int64_t block32 = i / 32, block256 = i / 256;
  const int nibble = 4 * (in32 / 16);  // of the formats that pair elements j and j + 16
  switch (dtype) {
    case DType::f32: return load_f32_bytes(row + 4 * i);
    case DType::f16: return load_f16(row + 2 * i);
    case DType::bf16: return bf16_to_float(static_cast<uint16_t>(load_u16(row + 2 * i)));
    case DType::q4_0: {
      const uint8_t* b = row + 18 * block32;
      return load_f16(b) * static_cast<float>((b[2 + in32 % 16] >> nibble & 15) - 8);
    }
    case DType::q4_1: {
      const uint8_t* b = row + 20 * block32;
      return load_f16(b) * static_cast<float>(b[4 + in32 % 16] >> nibble & 15) + load_f16(b + 2);
    }
    case DType::q5_0: {
      const uint8_t* b = row + 22 * block32;
      const int q = (b[6 + in32 % 16] >> nibble & 15) | (b[2 + in32 / 8] >> in32 % 8 & 1) << 4;
      return load_f16(b) * static_cast<float>(q - 16);
    }
    case DType::q5_1: {
      const uint8_t* b = row + 24 * block32;
      const int q = (b[8 + in32 % 16] >> nibble & 15) | (b[4 + in32 / 8] >> in32 % 8 & 1) << 4;
      return load_f16(b) * static_cast<float>(q) + load_f16(b + 2);
    }
    case DType::q8_0: {
      const uint8_t* b = row + 34 * block32;
      return load_f16(b) * static_cast<float>(static_cast<int8_t>(b[2 + in32]));
    }
    case DType::q8_1: {  // d, s, qs[32]
      const uint8_t* b = row + 36 * block32;
      return load_f16(b) * static_cast<float>(static_cast<int8_t>(b[4 + in32]));
    }
    case DType::q8_k: {  // d as float32, qs[256], sums
      const uint8_t* b = row + 292 * block256;
      return load_f32_bytes(b) * static_cast<float>(static_cast<int8_t>(b[4 + e]));
    }
    case DType::iq4_nl: {
      const uint8_t* b = row + 18 * block32;
      return load_f16(b) * iq4_value(b[2 + in32 % 16] >> nibble & 15);
    }
    case DType::q2_k: {  // scales[16], qs[64], d, dmin
      const uint8_t* b = row + 84 * block256;
      const int scales = b[e / 16], q = b[16 + 32 * (e / 128) + in32] >> 2 * (e % 128 / 32) & 3;
      const float scale = load_f16(b + 80) * static_cast<float>(scales & 15);
      const float min = load_f16(b + 82) * static_cast<float>(scales >> 4);
      return scale * static_cast<float>(q) - min;
    }
    case DType::q3_k: {  // hmask[32], qs[64], scales[12], d
      const uint8_t* b = row + 110 * block256;
      const int q = (b[32 + 32 * (e / 128) + in32] >> 2 * (e % 128 / 32) & 3) | (b[in32] >> e / 32 & 1) << 2;
      return load_f16(b + 108) * static_cast<float>(q3_k_scale(b + 96, e / 16)) * static_cast<float>(q - 4);
    }
    case DType::q4_k: {  // d, dmin, scales[12], qs[128]
      const uint8_t* b = row + 144 * block256;
      const float scale = load_f16(b) * static_cast<float>(k4_scale(b + 4, e / 32, false));
      const float min = load_f16(b + 2) * static_cast<float>(k4_scale(b + 4, e / 32, true));
      return scale * static_cast<float>(b[16 + 32 * (e / 64) + in32] >> 4 * (e / 32 % 2) & 15) - min;
    }
    case DType::q5_k: {  // d, dmin, scales[12], qh[32], qs[128]
      const uint8_t* b = row + 176 * block256;
      const float scale = load_f16(b) * static_cast<float>(k4_scale(b + 4, e / 32, false));
      const float min = load_f16(b + 2) * static_cast<float>(k4_scale(b + 4, e / 32, true));
      const int q = (b[48 + 32 * (e / 64) + in32] >> 4 * (e / 32 % 2) & 15) | (b[16 + in32] >> e / 32 & 1)
                                                                                  << 4;
      return scale * static_cast<float>(q) - min;
    }
    case DType::q6_k: {  // ql[128], qh[64], scales[16], d
      const uint8_t* b = row + 210 * block256;
      const int k = e % 128 / 32;
      const int q = (b[64 * (e / 128) + 32 * (k % 2) + in32] >> 4 * (k / 2) & 15) |
                    (b[128 + 32 * (e / 128) + in32] >> 2 * k & 3) << 4;
      return load_f16(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + e / 16])) *
             static_cast<float>(q - 32);
    }
    case DType::iq4_xs: {  // d, scales_h, scales_l[4], qs[128]
      const uint8_t* b = row + 136 * block256;
      const int g = e / 32;
      const int scale = ((b[4 + g / 2] >> 4 * (g % 2) & 15) | (load_u16(b + 2) >> 2 * g & 3) << 4) - 32;
      return load_f16(b) * static_cast<float>(scale) * iq4_value(b[8 + 16 * g + in32 % 16] >> nibble & 15);
    }
    default: return float_of_bits(0x7fc00000u);
  }
}

}  // namespace cria::cuda
