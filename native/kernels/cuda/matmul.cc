// Chooses the kernel for a product.
#include "kernels/cuda/matmul.h"

#include <algorithm>

#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/matmul_pack.h"

namespace cria::cuda {

namespace {

/// BF16 before sm_80, which has no tensor cores for it: eight tokens at a time, since there is no tile
/// kernel.
void matmul_by_eights(const MatmulArgs& args, Stream stream) {
  constexpr std::int64_t kChunkBytes = 128;  // of a token
  for (std::int32_t first = 0; first < args.n_tokens; first += kVectorTokens) {
    MatmulArgs part = args;
    part.n_tokens = std::min(kVectorTokens, args.n_tokens - first);
    part.activations = static_cast<const std::byte*>(args.activations) +
                       first * chunks_of(WeightForm::bf16, args.weight.cols) * kChunkBytes;
    part.y = args.y + first * args.y_stride;
    matmul_vector(part, {}, stream);
  }
}

}  // namespace

MatmulDevice prepare_matmul(const DeviceProperties& properties) {
  const MatmulDevice device{.major = properties.major,
                            .multiprocessors = properties.multiprocessors,
                            .shared_per_block = properties.shared_per_block};
  prepare_tiles_floats(device);
  prepare_tiles_blocks32(device);
  prepare_tiles_blocks256(device);
  return device;
}

void matmul(const MatmulDevice& device, const MatmulArgs& args, Stream stream) {
  if (args.n_tokens <= 0) return;
  const WeightForm form = weight_form(args.weight.dtype);
  if (form == WeightForm::f32) return matmul_f32(args, {}, stream);
  if (args.n_tokens <= kVectorTokens) return matmul_vector(args, {}, stream);
  if (form == WeightForm::bf16 && device.major < 8) return matmul_by_eights(args, stream);
  switch (form) {
    case WeightForm::f16:
    case WeightForm::bf16: return matmul_tiles_floats(device, args, {}, stream);
    case WeightForm::q8:
    case WeightForm::q8_min:
    case WeightForm::q4:
    case WeightForm::s4: return matmul_tiles_blocks32(device, args, {}, stream);
    default: return matmul_tiles_blocks256(device, args, {}, stream);
  }
}

bool takes_large_groups(const MatmulDevice& device, DType weight) {
  const WeightForm form = weight_form(weight);
  return form != WeightForm::f32 && (form != WeightForm::bf16 || device.major >= 8);
}

void matmul_groups(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                   Stream stream) {
  if (groups.n_groups <= 0) return;
  const WeightForm form = weight_form(args.weight.dtype);
  if (form == WeightForm::f32) return matmul_f32(args, groups, stream);
  if (groups.group_rows == kSmallGroupRows) return matmul_vector(args, groups, stream);
  switch (form) {
    case WeightForm::f16:
    case WeightForm::bf16: return matmul_tiles_floats(device, args, groups, stream);
    case WeightForm::q8:
    case WeightForm::q8_min:
    case WeightForm::q4:
    case WeightForm::s4: return matmul_tiles_blocks32(device, args, groups, stream);
    default: return matmul_tiles_blocks256(device, args, groups, stream);
  }
}

}  // namespace cria::cuda
