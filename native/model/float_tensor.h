// Small tensors of plain floats (norms, biases, scales, RoPE factors), which files hold as F32, F16 or BF16
// and the backends as float32.
#pragma once

#include <cstdint>
#include <span>

#include "io/model_source.h"

namespace cria {

/// Throws ERR_UNSUPPORTED_MODEL, naming the tensor, unless it is F32, F16 or BF16.
void check_float_tensor(const ModelSource& file, const GgufTensor& tensor);

/// Elements [first, first + out.size()) of such a tensor, as float32. Throws ERR_IO.
void read_floats(const ModelSource& file, const GgufTensor& tensor, std::uint64_t first,
                 std::span<float> out);

}  // namespace cria
