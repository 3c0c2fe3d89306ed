// Which kernel serves which product.
#include "kernels/cuda/matmul.h"

#include "core/error.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/matmul_pack.h"

namespace cria::cuda {

MatmulDevice prepare_matmul(const DeviceProperties& properties) {
  const MatmulDevice device{properties.major, properties.multiprocessors, properties.shared_per_block};
  prepare_tiles_floats(device);
  prepare_tiles_blocks32(device);
  prepare_tiles_blocks256(device);
  return device;
}

void matmul(const MatmulDevice& device, const MatmulArgs& args, Stream stream) {
  if (args.n_tokens <= 0) return;
  const WeightForm form = weight_form(args.weight.dtype);
  if (form == WeightForm::f32) return matmul_f32(args, stream);
  if (args.n_tokens <= kVectorTokens) return matmul_vector(args, stream);
  switch (form) {
    case WeightForm::f16:
    case WeightForm::bf16: return matmul_tiles_floats(device, args, stream);
    case WeightForm::q8:
    case WeightForm::q8_min:
    case WeightForm::q4: return matmul_tiles_blocks32(device, args, stream);
    default: return matmul_tiles_blocks256(device, args, stream);
  }
}

}  // namespace cria::cuda
