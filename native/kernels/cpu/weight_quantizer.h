// float32 weights -> any weight type, as conversion wants them: with the least error that a search finds, at
// the speed of the level in use and with the same bits at every level.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace cria {

/// Whether quantize_weights() writes this type.
bool can_quantize(DType dtype);

/// dst = n finite float32 of a row, or of whole blocks of one, as `dtype` in the file layout (blocks.h).
/// `importance` is null or [n]: not negative, the mean square of the activations that each column is
/// multiplied with, as an importance matrix has it. The error that the search minimizes is then the sum of
/// importance * error^2, with a quarter of the weight spread evenly over the columns of a block; without,
/// that of error^2. Q8_0 and the float types have nothing to search for (quantize.h). `dst` is aligned to 4
/// bytes; n is a multiple of the block size, or ERR_INVALID_ARGUMENT; so is a type that can_quantize()
/// denies.
void quantize_weights(DType dtype, const float* src, const float* importance, void* dst, std::int64_t n);

}  // namespace cria
