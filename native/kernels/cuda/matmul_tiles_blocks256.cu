// Tile kernels for weights in blocks of 256.
#include "kernels/cuda/matmul_tiles.cuh"

namespace cria::cuda {

void matmul_tiles_blocks256(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                            Stream stream) {
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::k8: return launch_tiles<WeightForm::k8>(device, args, groups, stream);
    case WeightForm::k8_min: return launch_tiles<WeightForm::k8_min>(device, args, groups, stream);
    case WeightForm::k4: return launch_tiles<WeightForm::k4>(device, args, groups, stream);
    case WeightForm::k5: return launch_tiles<WeightForm::k5>(device, args, groups, stream);
    case WeightForm::k6: return launch_tiles<WeightForm::k6>(device, args, groups, stream);
    case WeightForm::c4: return launch_tiles<WeightForm::c4>(device, args, groups, stream);
    default: return;
  }
}

void prepare_tiles_blocks256(const MatmulDevice& device) {
  prepare_tiles<WeightForm::k8>(device);
  prepare_tiles<WeightForm::k8_min>(device);
  prepare_tiles<WeightForm::k4>(device);
  prepare_tiles<WeightForm::k5>(device);
  prepare_tiles<WeightForm::k6>(device);
  prepare_tiles<WeightForm::c4>(device);
}

}  // namespace cria::cuda
