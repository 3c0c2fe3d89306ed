// A tensor as a safetensors file or a PyTorch checkpoint holds it, before it has GGUF's name, type and order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cria {

/// The element types of both formats. F8_E4M3: 1 sign, 4 exponent (bias 7) and 3 mantissa bits, no infinities
/// (Micikevicius et al. 2022, "FP8 Formats for Deep Learning").
enum class StoredType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  i64,
  u64,
  f64,
  c64,
};

struct StoredTypeTraits {
  StoredType type;
  std::string_view name;  // as safetensors spells it
  std::uint32_t bits;     // of an element
};

/// Source: safetensors, enum Dtype (github.com/huggingface/safetensors, safetensors/src/tensor.rs).
inline constexpr StoredTypeTraits kStoredTypes[] = {
    {StoredType::boolean, "BOOL", 8},    {StoredType::f4, "F4", 4},
    {StoredType::f6_e2m3, "F6_E2M3", 6}, {StoredType::f6_e3m2, "F6_E3M2", 6},
    {StoredType::u8, "U8", 8},           {StoredType::i8, "I8", 8},
    {StoredType::f8_e5m2, "F8_E5M2", 8}, {StoredType::f8_e4m3, "F8_E4M3", 8},
    {StoredType::f8_e8m0, "F8_E8M0", 8}, {StoredType::i16, "I16", 16},
    {StoredType::u16, "U16", 16},        {StoredType::f16, "F16", 16},
    {StoredType::bf16, "BF16", 16},      {StoredType::i32, "I32", 32},
    {StoredType::u32, "U32", 32},        {StoredType::f32, "F32", 32},
    {StoredType::i64, "I64", 64},        {StoredType::u64, "U64", 64},
    {StoredType::f64, "F64", 64},        {StoredType::c64, "C64", 64},
};

constexpr const StoredTypeTraits& traits_of(StoredType type) noexcept {
  for (const StoredTypeTraits& traits : kStoredTypes)
    if (traits.type == type) return traits;
  return kStoredTypes[0];
}
inline std::string_view name_of(StoredType type) noexcept { return traits_of(type).name; }

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<std::uint64_t> shape;  // outermost first
  std::uint32_t file_index = 0;      // in the list of the files of the model
  std::uint64_t offset = 0;          // absolute byte offset in that file
  std::uint64_t bytes = 0;
};

/// "[512, 64]"
std::string shape_text(const std::vector<std::uint64_t>& shape);

}  // namespace cria
