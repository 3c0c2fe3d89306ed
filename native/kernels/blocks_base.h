// What the block formats of blocks.h have in common: the forms that CUDA holds them in, packed bits, and the
// tables of values that codes stand for.
//
// No STL and only internal linkage: this header is compiled once per instruction set (see cmake/isa.cmake).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"

#ifdef __CUDACC__
#define CRIA_BLOCK_FUNCTION static __host__ __device__ __forceinline__
#define CRIA_BLOCK_METHOD __host__ __device__ __forceinline__
#define CRIA_BLOCK_CODE __device__ inline
#else
#define CRIA_BLOCK_FUNCTION static inline __attribute__((always_inline))
#define CRIA_BLOCK_METHOD inline __attribute__((always_inline))
#define CRIA_BLOCK_CODE inline
#endif

namespace cria {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "block formats are read in place");

static constexpr int kBlockSize = 32;  // elements of a block of Q8_0, and of most that are multiplied with it
static constexpr int kSuperBlockSize =
    256;  // elements of a block of Q8_K, and of all that are multiplied with it

/// How weights lie in CUDA's memory (kernels/cuda/matmul_pack.h).
enum class WeightForm : uint8_t { f32, f16, bf16, q8, q8_min, q4, s4, k8, k8_min, k4, k5, k6, c4 };

/// Where the two parts of value k of a format's group of 32 columns, four columns to a dword, stand among the
/// block's dwords of weights.
struct BitLayout {
  int low, low_shift, low_bits;
  int high, high_shift, high_bits;
  // The four columns' single high bits follow each other, rather than stand a byte apart.
  bool scattered;
};

// ---- packed bits ----

/// The lower (n = 0) or the upper nibble of a byte.
CRIA_BLOCK_FUNCTION int nibble(int byte, int n) { return byte >> (4 * n) & 15; }

/// Of packed bytes, byte k of word w.
struct PackedBytes {
  const uint8_t* p;
  CRIA_BLOCK_METHOD int operator()(int w, int k) const { return p[4 * w + k]; }
};

/// A float of these bits.
CRIA_BLOCK_FUNCTION float block_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
CRIA_BLOCK_FUNCTION uint32_t block_dword(const uint8_t* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}

// ---- tables of values ----

/// Four signed bytes as a word.
static constexpr uint32_t codebook_word(int a, int b, int c, int d) {
  return (static_cast<uint32_t>(a) & 255u) | (static_cast<uint32_t>(b) & 255u) << 8 |
         (static_cast<uint32_t>(c) & 255u) << 16 | (static_cast<uint32_t>(d) & 255u) << 24;
}

/// The values that codes of up to four bits stand for. Four to a word, and so arguments of a template: device
/// code cannot index a constant array of the host.
template <uint32_t kW0, uint32_t kW1 = 0, uint32_t kW2 = 0, uint32_t kW3 = 0>
struct Codebook {
  CRIA_BLOCK_METHOD static constexpr int at(int code) {
    const uint32_t word = code < 8 ? (code < 4 ? kW0 : kW1) : (code < 12 ? kW2 : kW3);
    return static_cast<int8_t>(word >> (8 * (code & 3)));
  }
};

/// What is added to values below it in magnitude, to make them unsigned.
static constexpr int kCodebookBias = 64;

/// A codebook's bytes for vector code, kCodebookBias added.
template <class Book>
struct CodebookBytes {
  struct Bytes {
    int8_t v[16];
  };
  alignas(16) static constexpr Bytes biased = [] {
    Bytes out{};
    for (int i = 0; i < 16; i++) out.v[i] = static_cast<int8_t>(Book::at(i) + kCodebookBias);
    return out;
  }();
};

/// The sixteen values of IQ4_NL and IQ4_XS.
alignas(16) static constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};
static constexpr uint32_t iq4_word(int i) {
  uint32_t word = 0;
  for (int k = 3; k >= 0; k--) word = word << 8 | static_cast<uint8_t>(kIq4Values[4 * i + k]);
  return word;
}
using Iq4Values = Codebook<iq4_word(0), iq4_word(1), iq4_word(2), iq4_word(3)>;
CRIA_BLOCK_FUNCTION int iq4_value(int q) { return Iq4Values::at(q); }

}  // namespace cria
