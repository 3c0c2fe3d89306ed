// The weights of a divided model: each layer's on the side that runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace cria {

class SplitWeights final : public WeightStore {
 public:
  /// Layers from `first_device_layer` on are the device's, everything else the host's. Both stores outlive
  /// it.
  SplitWeights(WeightStore& host, WeightStore& device, std::int32_t first_device_layer)
      : host_(host), device_(device), first_device_layer_(first_device_layer) {}

  std::uint64_t bytes(std::span<const WeightSpec> specs) const override;
  std::unique_ptr<WeightUpload> upload(std::span<const WeightSpec> specs) override;
  /// The host's weights stay where they lie, the device's are copied.
  std::vector<Weight> adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                            std::shared_ptr<const void> owner) override;

 private:
  /// One side's weights, and where they stand among all.
  struct Share {
    std::vector<WeightSpec> specs;
    std::vector<std::size_t> indices;
  };
  /// Of the host, of the device.
  std::pair<Share, Share> divide(std::span<const WeightSpec> specs) const;

  WeightStore& host_;
  WeightStore& device_;
  const std::int32_t first_device_layer_;
};

}  // namespace cria
