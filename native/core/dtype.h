// Element and block types. The numbers are GGUF's tensor type ids, so a file's id is checked and then used as
// is. Source: the GGUF specification, "ggml_type".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cria {

enum class DType : std::uint8_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,  // activations only: Q8_0 plus the block's sum
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  q8_k = 15,  // activations only: 256 int8, one float scale, 16 sums
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  bf16 = 30,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};

struct DTypeTraits {
  DType dtype;
  /// GGUF's spelling, e.g. "Q4_K".
  std::string_view name;
  /// Elements per block (1 for float types), and its bytes.
  std::uint32_t block_size, block_bytes;
  /// Whether it may be the type of a tensor in a file.
  bool is_weight;
  /// What activations are quantized to for a product with weights of this type (llama.cpp's vec_dot_type).
  DType activation;
};

/// Every type. What else the kernels know of the blocks: kernels/blocks.h.
inline constexpr DTypeTraits kDTypes[] = {
    {DType::f32, "F32", 1, 4, true, DType::f32},
    {DType::f16, "F16", 1, 2, true, DType::f16},
    {DType::bf16, "BF16", 1, 2, true, DType::bf16},
    {DType::q4_0, "Q4_0", 32, 18, true, DType::q8_0},
    {DType::q4_1, "Q4_1", 32, 20, true, DType::q8_1},
    {DType::q5_0, "Q5_0", 32, 22, true, DType::q8_0},
    {DType::q5_1, "Q5_1", 32, 24, true, DType::q8_1},
    {DType::q8_0, "Q8_0", 32, 34, true, DType::q8_0},
    {DType::q8_1, "Q8_1", 32, 36, false, DType::q8_1},
    {DType::q2_k, "Q2_K", 256, 84, true, DType::q8_k},
    {DType::q3_k, "Q3_K", 256, 110, true, DType::q8_k},
    {DType::q4_k, "Q4_K", 256, 144, true, DType::q8_k},
    {DType::q5_k, "Q5_K", 256, 176, true, DType::q8_k},
    {DType::q6_k, "Q6_K", 256, 210, true, DType::q8_k},
    {DType::q8_k, "Q8_K", 256, 292, false, DType::q8_k},
    {DType::iq4_nl, "IQ4_NL", 32, 18, true, DType::q8_0},
    {DType::iq4_xs, "IQ4_XS", 256, 136, true, DType::q8_k},
    {DType::iq1_s, "IQ1_S", 256, 50, true, DType::q8_k},
    {DType::iq1_m, "IQ1_M", 256, 56, true, DType::q8_k},
    {DType::iq2_xxs, "IQ2_XXS", 256, 66, true, DType::q8_k},
    {DType::iq2_xs, "IQ2_XS", 256, 74, true, DType::q8_k},
    {DType::iq2_s, "IQ2_S", 256, 82, true, DType::q8_k},
    {DType::iq3_xxs, "IQ3_XXS", 256, 98, true, DType::q8_k},
    {DType::iq3_s, "IQ3_S", 256, 110, true, DType::q8_k},
    {DType::tq1_0, "TQ1_0", 256, 54, true, DType::q8_k},
    {DType::tq2_0, "TQ2_0", 256, 66, true, DType::q8_k},
    {DType::mxfp4, "MXFP4", 32, 17, true, DType::q8_0},
    {DType::nvfp4, "NVFP4", 64, 36, true, DType::q8_0},
    {DType::q1_0, "Q1_0", 128, 18, true, DType::q8_0},
    {DType::q2_0, "Q2_0", 64, 18, true, DType::q8_0},
};

/// Traits of a type id as found in a file, or nullptr when the id is not one of ours.
const DTypeTraits* find_dtype(std::uint32_t ggml_type_id) noexcept;

constexpr const DTypeTraits& traits_of(DType dtype) noexcept {
  for (const DTypeTraits& t : kDTypes)
    if (t.dtype == dtype) return t;
  return kDTypes[0];
}
inline std::string_view name_of(DType dtype) noexcept { return traits_of(dtype).name; }

/// Bytes of a row of `cols` elements; `cols` must be a multiple of the block size.
inline std::size_t row_bytes(DType dtype, std::size_t cols) noexcept {
  const DTypeTraits& t = traits_of(dtype);
  return cols / t.block_size * t.block_bytes;
}

}  // namespace cria
