#include "model/float_tensor.h"

#include <string>
#include <vector>

#include "core/float_bits.h"
#include "model/config_error.h"

namespace cria {

void check_float_tensor(const ModelSource& file, const GgufTensor& tensor) {
  if (tensor.dtype != DType::f32 && tensor.dtype != DType::f16 && tensor.dtype != DType::bf16)
    throw_unsupported_tensor(file, tensor.name,
                             "expected F32, F16 or BF16, found " + std::string(name_of(tensor.dtype)));
}

void read_floats(const ModelSource& file, const GgufTensor& tensor, std::uint64_t first,
                 std::span<float> out) {
  if (tensor.dtype == DType::f32) {
    file.read(tensor, first * sizeof(float), out.data(), out.size_bytes());
    return;
  }
  std::vector<std::uint16_t> bits(out.size());
  file.read(tensor, first * sizeof(std::uint16_t), bits.data(), bits.size() * sizeof(std::uint16_t));
  for (std::size_t i = 0; i < out.size(); i++)
    out[i] = tensor.dtype == DType::f16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
}

}  // namespace cria
