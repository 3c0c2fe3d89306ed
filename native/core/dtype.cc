#include "core/dtype.h"

namespace cria {
namespace {

constexpr DTypeTraits kTraits[] = {
    {DType::f32, "F32", 1, 4, true},         {DType::f16, "F16", 1, 2, true},
    {DType::q4_0, "Q4_0", 32, 18, true},     {DType::q4_1, "Q4_1", 32, 20, true},
    {DType::q5_0, "Q5_0", 32, 22, true},     {DType::q5_1, "Q5_1", 32, 24, true},
    {DType::q8_0, "Q8_0", 32, 34, true},     {DType::q8_1, "Q8_1", 32, 36, false},
    {DType::q2_k, "Q2_K", 256, 84, true},    {DType::q3_k, "Q3_K", 256, 110, true},
    {DType::q4_k, "Q4_K", 256, 144, true},   {DType::q5_k, "Q5_K", 256, 176, true},
    {DType::q6_k, "Q6_K", 256, 210, true},   {DType::q8_k, "Q8_K", 256, 292, false},
    {DType::iq4_nl, "IQ4_NL", 32, 18, true}, {DType::iq4_xs, "IQ4_XS", 256, 136, true},
    {DType::bf16, "BF16", 1, 2, true},
};

}  // namespace

const DTypeTraits* find_dtype(std::uint32_t ggml_type_id) noexcept {
  for (const DTypeTraits& t : kTraits)
    if (static_cast<std::uint32_t>(t.dtype) == ggml_type_id) return &t;
  return nullptr;
}

const DTypeTraits& traits_of(DType dtype) noexcept {
  for (const DTypeTraits& t : kTraits)
    if (t.dtype == dtype) return t;
  return kTraits[0];
}

}  // namespace cria
