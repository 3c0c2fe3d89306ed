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
  std::string_view name;      // GGUF's spelling, e.g. "Q4_K"
  std::uint32_t block_size;   // elements per block (1 for float types)
  std::uint32_t block_bytes;  // bytes per block
  bool is_weight;             // may be the type of a tensor in a file
};

/// Traits of a type id as found in a file, or nullptr when the id is not one of ours.
const DTypeTraits* find_dtype(std::uint32_t ggml_type_id) noexcept;

const DTypeTraits& traits_of(DType dtype) noexcept;
inline std::string_view name_of(DType dtype) noexcept { return traits_of(dtype).name; }

/// Bytes of a row of `cols` elements; `cols` must be a multiple of the block size.
inline std::size_t row_bytes(DType dtype, std::size_t cols) noexcept {
  const DTypeTraits& t = traits_of(dtype);
  return cols / t.block_size * t.block_bytes;
}

}  // namespace cria
