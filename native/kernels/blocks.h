// Every block format: its bytes as a plain struct, exactly as they lie in a GGUF file (little endian, no
// padding), and beside them all that the library knows of the format. Source of the bytes: the block formats
// of GGML ("ggml-common.h") as the GGUF specification names them.
//
// Notation below: element e of the block; `d`, `m`, `dmin`, `s` are binary16 bits unless said otherwise. A
// format's value is written with the order of float operations that BlockValues uses; integers become
// float32 first.
//
// What a weight format states:
//
//   kType              its DType
//   kElements, kGroup  elements of a block, and of a group, which share a scale
//   kHasMin            whether a term is added to (blocks of 32) or subtracted from (super-blocks) d * q
//   kForm              how CUDA holds it (kernels/cuda/matmul_pack.h)
//   kHeaderDword       of the block's dwords, the first of those that the CPU's panels hold first: the scales
//                      (kernels/cpu/repack.h)
//   kPanelBits         bits of a weight where panels hold whole weights (kernels/cpu/bit_layout.h), with
//                      bit_layout(); 0 where they hold the file's dwords
//   quant(s, j)        element 16 s + j before its scale, the offset of the format taken off
//   scale(g), min(g)   super-blocks: the integers of group g
//
// visit_dtype() turns a DType at run time into one of these structs. Scales are unpacked by templates over
// the lane: a byte or a word on host and device, the same of sixteen rows in the CPU's kernels.
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

static constexpr int kBlockSize = 32;        // elements of a Q4_0 ... Q8_1 or IQ4_NL block
static constexpr int kSuperBlockSize = 256;  // elements of a k-quant or IQ4_XS block

/// How weights lie in CUDA's memory (kernels/cuda/matmul_pack.h).
enum class WeightForm : uint8_t { f32, f16, bf16, q8, q8_min, q4, k8, k8_min, k4, k5, k6 };

/// Where the two parts of value k of a format's group of 32 columns, four columns to a dword, stand among the
/// block's dwords of weights.
struct BitLayout {
  int low, low_shift, low_bits;
  int high, high_shift, high_bits;
  // The four columns' single high bits follow each other, rather than stand a byte apart.
  bool scattered;
};

// ---- packed scales ----

/// The lower (n = 0) or the upper nibble of a byte.
CRIA_BLOCK_FUNCTION int nibble(int byte, int n) { return byte >> (4 * n) & 15; }

/// Of packed bytes, byte k of word w.
struct PackedBytes {
  const uint8_t* p;
  CRIA_BLOCK_METHOD int operator()(int w, int k) const { return p[4 * w + k]; }
};

/// The six-bit scales and mins of Q4_K and Q5_K, each 0..63, from the three words of the block: group g's is
/// byte g % 4 of word g / 4. Groups 0..3 have the low six bits of words 0 (scales) and 1 (mins); for groups
/// 4..7 word 2 holds the low nibbles (scales low, mins high), and the top two bits of words 0 and 1 are their
/// upper two. V: a word, or that of sixteen rows.
template <class V>
struct K4Scales {
  V scale[2], min[2];
};
/// Word i of the scales from words 0 and 2; kMin: of the mins, from words 1 and 2.
template <bool kMin, class V>
CRIA_BLOCK_FUNCTION V k4_scale_word(V own, V low, int i) {
  if (i == 0) return own & 0x3f3f3f3f;
  return ((kMin ? low >> 4 : low) & 0x0f0f0f0f) | ((own >> 2) & 0x30303030);
}
template <class V>
CRIA_BLOCK_FUNCTION K4Scales<V> k4_scales(V w0, V w1, V w2) {
  return {{k4_scale_word<false>(w0, w2, 0), k4_scale_word<false>(w0, w2, 1)},
          {k4_scale_word<true>(w1, w2, 0), k4_scale_word<true>(w1, w2, 1)}};
}
/// Group g's scale or min alone, in the low six bits of a byte; those above are not defined. byte(w, k): byte
/// k of word w, in the lowest byte of a lane. Each byte above it that the lane has of the word after it
/// becomes the next group's.
template <bool kMin, class Byte, class Index>
CRIA_BLOCK_FUNCTION auto k4_scale_bits(Byte byte, Index g) {
  const auto own = byte(kMin ? 1 : 0, g % 4);
  if (g < 4) return own;
  return k4_scale_word<kMin>(own, byte(2, g % 4), 1);
}

/// The sixteen six-bit scales of Q3_K with 32 still added, each 0..63, from the three words of the block:
/// scale g is byte g % 4 of word g / 4. Its low nibble is in byte g % 8 of the twelve (high nibble when g >=
/// 8), its upper two bits are bits 2 * (g / 4) and the next of byte 8 + g % 4. V as above. Word i of the
/// four:
template <class V>
CRIA_BLOCK_FUNCTION V q3_k_scale_word(V w0, V w1, V w2, int i) {
  const V low = i % 2 ? w1 : w0;
  return ((i < 2 ? low : low >> 4) & 0x0f0f0f0f) | ((i == 3 ? w2 >> 2 : w2 << (4 - 2 * i)) & 0x30303030);
}
/// Scale g alone, and byte as in k4_scale_bits().
template <class Byte, class Index>
CRIA_BLOCK_FUNCTION auto q3_k_scale_bits(Byte byte, Index g) {
  const int i = static_cast<int>(g / 4);
  const auto low = byte(i % 2, g % 4) >> (4 * (i / 2));
  const auto high = (byte(2, g % 4) >> (2 * i)) << 4;
  return (low & 0x0f0f0f0f) | (high & 0x30303030);
}

/// The six-bit scale of IQ4_XS's group g with its offset taken off, -32..31, from the first two words of the
/// block: nibble g of `low`, and bits 2g, 2g + 1 of the upper half of `header`. V as above.
template <class V, class Index>
CRIA_BLOCK_FUNCTION V iq4_xs_scale(V header, V low, Index g) {
  const V high = (header >> static_cast<int>(16 + 2 * g)) & 3;
  return (((low >> static_cast<int>(4 * g)) & 15) | (high << 4)) - 32;
}

/// The sixteen values of IQ4_NL and IQ4_XS.
alignas(16) static constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};
static constexpr uint32_t iq4_word(int i) {
  uint32_t word = 0;
  for (int k = 3; k >= 0; k--) word = word << 8 | static_cast<uint8_t>(kIq4Values[4 * i + k]);
  return word;
}
// Device code cannot index a constant array of the host.
static constexpr uint32_t kIq4Word0 = iq4_word(0), kIq4Word1 = iq4_word(1), kIq4Word2 = iq4_word(2),
                          kIq4Word3 = iq4_word(3);
CRIA_BLOCK_FUNCTION int iq4_value(int q) {
#ifdef __CUDA_ARCH__
  const uint32_t word = q < 8 ? (q < 4 ? kIq4Word0 : kIq4Word1) : (q < 12 ? kIq4Word2 : kIq4Word3);
  return static_cast<int8_t>(word >> (8 * (q & 3)));
#else
  return kIq4Values[q];
#endif
}

/// Bit 4 of element 16 s + j of Q5_0 and Q5_1, in its place.
CRIA_BLOCK_FUNCTION int fifth_bit(const uint8_t qh[4], int s, int j) {
  uint32_t bits;
  __builtin_memcpy(&bits, qh, 4);
  return static_cast<int>(bits >> (16 * s + j) & 1u) << 4;
}

// ---- floats ----

struct ElementF32 {
  float value;
  static constexpr DType kType = DType::f32;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::f32;
};
struct ElementF16 {
  uint16_t bits;
  static constexpr DType kType = DType::f16;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::f16;
};
struct ElementBF16 {
  uint16_t bits;
  static constexpr DType kType = DType::bf16;
  static constexpr int kElements = 1;
  static constexpr WeightForm kForm = WeightForm::bf16;
};

// ---- blocks of 32 ----

/// d * (q - 8). qs[j]: element j in bits 0-3, element j + 16 in bits 4-7.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::q4_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q4;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s) - 8; }
};

/// d * q + m. qs as in Q4_0.
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];

  static constexpr DType kType = DType::q4_1;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::q8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s); }
};

/// d * (q - 16). Low four bits as in Q4_0; bit e of the little-endian word qh is bit 4 of element e.
struct BlockQ5_0 {
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];

  static constexpr DType kType = DType::q5_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return (nibble(qs[j], s) | fifth_bit(qh, s, j)) - 16; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int, int k) {
    return {.low = 1 + k % 4,
            .low_shift = 4 * (k / 4),
            .low_bits = 4,
            .high = 0,
            .high_shift = 4 * k,
            .high_bits = 1,
            .scattered = true};
  }
};

/// d * q + m. q as in Q5_0.
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qh[4];
  uint8_t qs[16];

  static constexpr DType kType = DType::q5_1;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::q8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return nibble(qs[j], s) | fifth_bit(qh, s, j); }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return BlockQ5_0::bit_layout(group, k);
  }
};

/// d * q. Weights and activations.
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];

  static constexpr DType kType = DType::q8_0;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return qs[16 * s + j]; }
};

/// Activations only: Q8_0 and s = binary16(d * sum of qs), where d is the scale before its rounding to
/// binary16.
struct BlockQ8_1 {
  uint16_t d;
  uint16_t s;
  int8_t qs[32];

  static constexpr DType kType = DType::q8_1;
  static constexpr int kElements = 32, kGroup = 32;
  static constexpr bool kHasMin = false;
  CRIA_BLOCK_METHOD int quant(int part, int j) const { return qs[16 * part + j]; }
};

/// d * kIq4Values[q]. qs as in Q4_0.
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];

  static constexpr DType kType = DType::iq4_nl;
  static constexpr int kElements = 32, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::q8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return iq4_value(nibble(qs[j], s)); }
};

// ---- super-blocks of 256 ----

/// 16 groups of 16: (d * scale) * q - dmin * min. scales[g]: scale in bits 0-3, min in bits 4-7.
/// Element e, two bits: byte 32*(e/128) + e%32 of qs, bits 2k and 2k+1 with k = (e%128)/32.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;

  static constexpr DType kType = DType::q2_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 20, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k8_min;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    return qs[32 * (s / 8) + 16 * (s % 2) + j] >> (2 * (s % 8 / 2)) & 3;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return scales[g] & 15; }
  CRIA_BLOCK_METHOD int min(int g) const { return scales[g] >> 4; }
};

/// 16 groups of 16: (d * (scale - 32)) * (q - 4). Low two bits of q as in Q2_K; bit 2 of q is bit e/32 of
/// hmask[e%32]. The 16 six-bit scales: see q3_k_scale_word().
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;

  static constexpr DType kType = DType::q3_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 24, kPanelBits = 3;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::k8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int low = qs[32 * (s / 8) + 16 * (s % 2) + j] >> (2 * (s % 8 / 2)) & 3;
    return (low | (hmask[16 * (s % 2) + j] >> (s / 2) & 1) << 2) - 4;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return (q3_k_scale_bits(PackedBytes{scales}, g) & 63) - 32; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return {.low = 8 + 8 * (group / 4) + k,
            .low_shift = 2 * (group % 4),
            .low_bits = 2,
            .high = k,
            .high_shift = group,
            .high_bits = 1,
            .scattered = false};
  }
};

/// 8 groups of 32: (d * scale) * q - dmin * min. Element e: byte 32*(e/64) + e%32 of qs, low nibble when
/// (e/32) is even. The 8 six-bit scales and mins: see k4_scales().
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];

  static constexpr DType kType = DType::q4_k;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k4;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    return nibble(qs[32 * (s / 4) + 16 * (s % 2) + j], s / 2 % 2);
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return k4_scale_bits<false>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD int min(int g) const { return k4_scale_bits<true>(PackedBytes{scales}, g) & 63; }
};

/// As Q4_K with five bits: bit 4 of element e is bit e/32 of qh[e%32].
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];

  static constexpr DType kType = DType::q5_k;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 5;
  static constexpr bool kHasMin = true;
  static constexpr WeightForm kForm = WeightForm::k5;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int i = 16 * (s % 2) + j;
    return nibble(qs[32 * (s / 4) + i], s / 2 % 2) | (qh[i] >> (s / 2) & 1) << 4;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return k4_scale_bits<false>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD int min(int g) const { return k4_scale_bits<true>(PackedBytes{scales}, g) & 63; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    return {.low = 8 + 8 * (group / 2) + k,
            .low_shift = 4 * (group % 2),
            .low_bits = 4,
            .high = k,
            .high_shift = group,
            .high_bits = 1,
            .scattered = false};
  }
};

/// 16 groups of 16: (d * scale) * (q - 32). With h = e/128, k = (e%128)/32, i = e%32:
/// low four bits in byte 64*h + 32*(k%2) + i of ql (high nibble when k >= 2), upper two in bits 2k, 2k+1 of
/// qh[32*h + i].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;

  static constexpr DType kType = DType::q6_k;
  static constexpr int kElements = 256, kGroup = 16, kHeaderDword = 48, kPanelBits = 6;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::k6;
  CRIA_BLOCK_METHOD int quant(int s, int j) const {
    const int half = s / 8, k = s % 8 / 2, i = 16 * (s % 2) + j;
    return (nibble(ql[64 * half + 32 * (k % 2) + i], k / 2) | (qh[32 * half + i] >> (2 * k) & 3) << 4) - 32;
  }
  CRIA_BLOCK_METHOD int scale(int g) const { return scales[g]; }
  CRIA_BLOCK_METHOD static constexpr BitLayout bit_layout(int group, int k) {
    const int half = group / 4, quarter = group % 4;
    return {.low = 16 * half + 8 * (quarter % 2) + k,
            .low_shift = 4 * (quarter / 2),
            .low_bits = 4,
            .high = 32 + 8 * half + k,
            .high_shift = 2 * quarter,
            .high_bits = 2,
            .scattered = false};
  }
};

/// Activations only: d * q, d a float32; bsums[g] is the sum of qs[16g .. 16g+15].
struct BlockQ8_K {
  float d;
  int8_t qs[256];
  int16_t bsums[16];

  static constexpr DType kType = DType::q8_k;
  static constexpr int kElements = 256, kGroup = 256;
  static constexpr bool kHasMin = false;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return qs[16 * s + j]; }
};

/// 8 groups of 32: (d * (scale - 32)) * kIq4Values[q]. Group g: qs[16g + j] holds its elements j (bits 0-3)
/// and j + 16 (bits 4-7). The six-bit scales: see iq4_xs_scale().
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];

  static constexpr DType kType = DType::iq4_xs;
  static constexpr int kElements = 256, kGroup = 32, kHeaderDword = 0, kPanelBits = 0;
  static constexpr bool kHasMin = false;
  static constexpr WeightForm kForm = WeightForm::k8;
  CRIA_BLOCK_METHOD int quant(int s, int j) const { return iq4_value(nibble(qs[16 * (s / 2) + j], s % 2)); }
  CRIA_BLOCK_METHOD int scale(int g) const {
    uint32_t words[2];
    __builtin_memcpy(words, this, sizeof words);
    return static_cast<int>(iq4_xs_scale(words[0], words[1], g));
  }
};

// ---- by DType ----

/// What a visitor of visit_dtype() is called with.
template <class T>
struct Format {
  using Block = T;
};

/// f(Format<Block>()) for the block struct of `dtype`: the only switch over formats.
#ifdef __CUDACC__
#pragma nv_exec_check_disable  // host code calls it with functions of the host, device code with the device's
#endif
template <class F>
CRIA_BLOCK_FUNCTION constexpr auto visit_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::f32: break;
    case DType::f16: return f(Format<ElementF16>());
    case DType::bf16: return f(Format<ElementBF16>());
    case DType::q4_0: return f(Format<BlockQ4_0>());
    case DType::q4_1: return f(Format<BlockQ4_1>());
    case DType::q5_0: return f(Format<BlockQ5_0>());
    case DType::q5_1: return f(Format<BlockQ5_1>());
    case DType::q8_0: return f(Format<BlockQ8_0>());
    case DType::q8_1: return f(Format<BlockQ8_1>());
    case DType::q2_k: return f(Format<BlockQ2_K>());
    case DType::q3_k: return f(Format<BlockQ3_K>());
    case DType::q4_k: return f(Format<BlockQ4_K>());
    case DType::q5_k: return f(Format<BlockQ5_K>());
    case DType::q6_k: return f(Format<BlockQ6_K>());
    case DType::q8_k: return f(Format<BlockQ8_K>());
    case DType::iq4_nl: return f(Format<BlockIQ4_NL>());
    case DType::iq4_xs: return f(Format<BlockIQ4_XS>());
  }
  return f(Format<ElementF32>());
}

// ---- values ----

/// Values of blocks. `Machine` supplies float from_f16(uint16_t bits), which host and device spell
/// differently.
template <class Machine, class Block>
struct BlockValues {
  /// A scale, and what is added (blocks of 32) or subtracted (super-blocks) where the format has mins.
  struct Affine {
    float scale, min;
  };
  static CRIA_BLOCK_CODE Affine of_block(const Block& b) {
    Affine a{0.0f, 0.0f};
    if constexpr (Block::kType == DType::q8_k)
      a.scale = b.d;
    else
      a.scale = Machine::from_f16(b.d);
    if constexpr (requires { b.m; }) a.min = Machine::from_f16(b.m);
    if constexpr (requires { b.dmin; }) a.min = Machine::from_f16(b.dmin);
    return a;
  }
  static CRIA_BLOCK_CODE Affine of_group(Affine block, const Block& b, int g) {
    if constexpr (requires { b.scale(g); }) block.scale = block.scale * static_cast<float>(b.scale(g));
    if constexpr (requires { b.min(g); }) block.min = block.min * static_cast<float>(b.min(g));
    return block;
  }
  static CRIA_BLOCK_CODE float value(Affine group, int quant) {
    const float product = group.scale * static_cast<float>(quant);
    if constexpr (!Block::kHasMin) return product;
    return Block::kElements == kBlockSize ? product + group.min : product - group.min;
  }
  /// Element e of a block.
  static CRIA_BLOCK_CODE float element(const Block& b, int e) {
    return value(of_group(of_block(b), b, e / Block::kGroup), b.quant(e / 16, e % 16));
  }
};

}  // namespace cria
