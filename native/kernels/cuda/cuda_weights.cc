#include "kernels/cuda/cuda_weights.h"

#include <string>

#include "core/error.h"

namespace cria::cuda {

std::unique_ptr<WeightUpload> CudaWeights::upload(std::span<const WeightSpec> specs) {
  context_.bind();
  const WeightPlan plan(specs);
  for (std::size_t i = 0; i < specs.size(); i++) {
    if (specs[i].use != WeightUse::vector) max_cols_ = std::max(max_cols_, specs[i].cols);
    if (specs[i].use == WeightUse::up && plan.places[i].layout != kFusedGateUp)
      max_separate_up_rows_ = std::max(max_separate_up_rows_, specs[i].rows);
  }
  memory_.push_back(allocate_array<std::byte>(plan.bytes, "the model's weights"));
  return std::make_unique<CudaWeightUpload>(context_.device(), specs, plan, memory_.back().get());
}

std::vector<Weight> CudaWeights::adopt(std::span<const WeightSpec>, std::span<const void* const>,
                                       std::shared_ptr<const void>) {
  throw Error(ErrorCode::unsupported_device,
              "mmap: only the CPU uses weights where the file is mapped; omit mmap, or use device: 'cpu'",
              {{"device", std::string(device_kind()) + ":" + std::to_string(context_.device())}});
}

}  // namespace cria::cuda
