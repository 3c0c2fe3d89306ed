#include "kernels/cpu/weight_quantizer.h"

#include <string>

#include "core/error.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/quantize.h"

namespace cria {
namespace {

/// The types whose bits quantize_row() defines, and which leave no choice of a scale.
bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::q8_0;
}

}  // namespace

bool can_quantize(DType dtype) {
  return is_plain(dtype) || choose_level().quantize_weights(dtype, nullptr, nullptr, nullptr, 0);
}

void quantize_weights(DType dtype, const float* src, const float* importance, void* dst, std::int64_t n) {
  if (is_plain(dtype)) return quantize_row(dtype, src, dst, n);
  const std::int64_t block_size = traits_of(dtype).block_size;
  if (n < 0 || n % block_size != 0)
    throw Error(ErrorCode::invalid_argument,
                "quantize_weights: expected a multiple of " + std::to_string(block_size) + " values for " +
                    std::string(name_of(dtype)) + ", found " + std::to_string(n),
                {{"expected", block_size}, {"found", n}});
  if (!choose_level().quantize_weights(dtype, src, importance, dst, n))
    throw Error(ErrorCode::invalid_argument,
                "quantize_weights: no quantizer writes " + std::string(name_of(dtype)),
                {{"found", name_of(dtype)}});
}

}  // namespace cria
