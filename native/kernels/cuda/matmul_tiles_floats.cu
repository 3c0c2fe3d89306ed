// Tile kernels for 16-bit float weights.
#include "kernels/cuda/matmul_tiles.cuh"

namespace cria::cuda {

void matmul_tiles_floats(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                         Stream stream) {
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::f16: return launch_tiles<WeightForm::f16>(device, args, groups, stream);
    case WeightForm::bf16: return launch_tiles<WeightForm::bf16>(device, args, groups, stream);
    default: return;
  }
}

void prepare_tiles_floats(const MatmulDevice& device) {
  prepare_tiles<WeightForm::f16>(device);
  prepare_tiles<WeightForm::bf16>(device);
}

}  // namespace cria::cuda
