// File types: what llama.cpp's quantize tool calls its targets, such as Q4_K_M. Names and numbers are those
// of `general.file_type` (llama.h, enum llama_ftype).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/dtype.h"

namespace cria {

enum class FileType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q8_0 = 7,
  q5_0 = 8,
  q5_1 = 9,
  q2_k = 10,
  q3_k_s = 11,
  q3_k_m = 12,
  q3_k_l = 13,
  q4_k_s = 14,
  q4_k_m = 15,
  q5_k_s = 16,
  q5_k_m = 17,
  q6_k = 18,
  iq2_xxs = 19,
  iq2_xs = 20,
  q2_k_s = 21,
  iq3_xs = 22,
  iq3_xxs = 23,
  iq1_s = 24,
  iq4_nl = 25,
  iq3_s = 26,
  iq3_m = 27,
  iq2_s = 28,
  iq2_m = 29,
  iq4_xs = 30,
  iq1_m = 31,
  bf16 = 32,
  tq1_0 = 36,
  tq2_0 = 37,
  mxfp4_moe = 38,
  q1_0 = 40,
  q2_0 = 41,
};

struct FileTypeTraits {
  FileType type;
  std::string_view name;
  /// The type of most matrices.
  DType dtype;
};

inline constexpr FileTypeTraits kFileTypes[] = {
    {FileType::f32, "F32", DType::f32},
    {FileType::f16, "F16", DType::f16},
    {FileType::bf16, "BF16", DType::bf16},
    {FileType::q8_0, "Q8_0", DType::q8_0},
    {FileType::q6_k, "Q6_K", DType::q6_k},
    {FileType::q5_k_m, "Q5_K_M", DType::q5_k},
    {FileType::q5_k_s, "Q5_K_S", DType::q5_k},
    {FileType::q5_1, "Q5_1", DType::q5_1},
    {FileType::q5_0, "Q5_0", DType::q5_0},
    {FileType::q4_k_m, "Q4_K_M", DType::q4_k},
    {FileType::q4_k_s, "Q4_K_S", DType::q4_k},
    {FileType::q4_1, "Q4_1", DType::q4_1},
    {FileType::q4_0, "Q4_0", DType::q4_0},
    {FileType::iq4_nl, "IQ4_NL", DType::iq4_nl},
    {FileType::iq4_xs, "IQ4_XS", DType::iq4_xs},
    {FileType::mxfp4_moe, "MXFP4_MOE", DType::mxfp4},
    {FileType::q3_k_l, "Q3_K_L", DType::q3_k},
    {FileType::q3_k_m, "Q3_K_M", DType::q3_k},
    {FileType::q3_k_s, "Q3_K_S", DType::q3_k},
    {FileType::iq3_m, "IQ3_M", DType::iq3_s},
    {FileType::iq3_s, "IQ3_S", DType::iq3_s},
    {FileType::iq3_xs, "IQ3_XS", DType::iq3_s},
    {FileType::iq3_xxs, "IQ3_XXS", DType::iq3_xxs},
    {FileType::q2_k, "Q2_K", DType::q2_k},
    {FileType::q2_k_s, "Q2_K_S", DType::q2_k},
    {FileType::iq2_m, "IQ2_M", DType::iq2_s},
    {FileType::iq2_s, "IQ2_S", DType::iq2_xs},
    {FileType::iq2_xs, "IQ2_XS", DType::iq2_xs},
    {FileType::iq2_xxs, "IQ2_XXS", DType::iq2_xxs},
    {FileType::q2_0, "Q2_0", DType::q2_0},
    {FileType::tq2_0, "TQ2_0", DType::tq2_0},
    {FileType::tq1_0, "TQ1_0", DType::tq1_0},
    {FileType::iq1_m, "IQ1_M", DType::iq1_m},
    {FileType::iq1_s, "IQ1_S", DType::iq1_s},
    {FileType::q1_0, "Q1_0", DType::q1_0},
};

constexpr const FileTypeTraits& traits_of(FileType type) noexcept {
  for (const FileTypeTraits& t : kFileTypes)
    if (t.type == type) return t;
  return kFileTypes[0];
}
inline std::string_view name_of(FileType type) noexcept { return traits_of(type).name; }

/// The file type of a name, whatever its case. Q3_K, Q4_K and Q5_K mean the medium mix, as in llama.cpp.
/// Throws ERR_INVALID_ARGUMENT listing the names.
FileType parse_file_type(std::string_view name);

}  // namespace cria
