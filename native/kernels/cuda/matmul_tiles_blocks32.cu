// Tile kernels for weights in blocks of 32.
#include "kernels/cuda/matmul_tiles.cuh"

namespace cria::cuda {

void matmul_tiles_blocks32(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                           Stream stream) {
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::q8: return launch_tiles<WeightForm::q8>(device, args, groups, stream);
    case WeightForm::q8_min: return launch_tiles<WeightForm::q8_min>(device, args, groups, stream);
    case WeightForm::q4: return launch_tiles<WeightForm::q4>(device, args, groups, stream);
    case WeightForm::s4: return launch_tiles<WeightForm::s4>(device, args, groups, stream);
    default: return;
  }
}

void prepare_tiles_blocks32(const MatmulDevice& device) {
  prepare_tiles<WeightForm::q8>(device);
  prepare_tiles<WeightForm::q8_min>(device);
  prepare_tiles<WeightForm::q4>(device);
  prepare_tiles<WeightForm::s4>(device);
}

}  // namespace cria::cuda
