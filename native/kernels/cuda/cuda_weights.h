// Weights in a device's memory, packed into tiles (matmul_pack.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/weight_upload.h"

namespace cria::cuda {

class CudaWeights final : public WeightStore {
 public:
  /// `context` outlives it, and has settled when it is destroyed.
  explicit CudaWeights(const Context& context) : context_(context) {}
  std::uint64_t bytes(std::span<const WeightSpec> specs) const override { return WeightPlan(specs).bytes; }
  std::unique_ptr<WeightUpload> upload(std::span<const WeightSpec> specs) override;
  std::vector<Weight> adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                            std::shared_ptr<const void> owner) override;

  // What the products of all uploaded weights need scratch for.
  std::int64_t max_cols() const { return max_cols_; }
  /// Rows of an `up` that is not fused with its gate; 0 when all are.
  std::int64_t max_separate_up_rows() const { return max_separate_up_rows_; }

 private:
  const Context& context_;
  std::vector<DeviceMemory<std::byte>> memory_;
  std::int64_t max_cols_ = 0, max_separate_up_rows_ = 0;
};

}  // namespace cria::cuda
