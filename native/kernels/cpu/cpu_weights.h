// Weights in the CPU's memory: quantized matrices repacked into panels (repack.h), everything else as in the
// file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "core/huge_memory.h"
#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"

namespace cria {

/// Weight::layout on the CPU.
enum CpuWeightLayout : std::uint8_t {
  kFileRows = 0,  // row-major, as in a GGUF file
  kPanels = 1,    // repack.h
};

class CpuWeights final : public WeightStore {
 public:
  explicit CpuWeights(const CpuKernels& kernels) : kernels_(kernels) {}
  std::uint64_t bytes(std::span<const WeightSpec> specs) const override;
  std::unique_ptr<WeightUpload> upload(std::span<const WeightSpec> specs) override;
  std::vector<Weight> adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                            std::shared_ptr<const void> owner) override;

 private:
  const CpuKernels& kernels_;
  std::deque<HugeMemory> memory_;
  std::vector<std::shared_ptr<const void>> owners_;  // of adopted weights
};

}  // namespace cria
