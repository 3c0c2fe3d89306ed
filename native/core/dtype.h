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
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
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
