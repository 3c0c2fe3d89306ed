#include "kernels/split_weights.h"

#include <array>
#include <cstring>

namespace cria {
namespace {

/// Weights on their way to both sides. The host's parts come first.
class SplitUpload final : public WeightUpload {
 public:
  struct Side {
    std::unique_ptr<WeightUpload> upload;
    std::vector<std::size_t> indices;  // of its weights among all
  };
  SplitUpload(Side host, Side device) : sides_{std::move(host), std::move(device)} {
    for (const Side& side : sides_)
      for (WeightPart part : side.upload->parts()) {
        for (std::size_t i = 0; i < part.n_ranges; i++)
          part.ranges[i].index = side.indices[part.ranges[i].index];
        parts_.push_back(part);
      }
  }

  std::span<const WeightPart> parts() const override { return parts_; }

  void fill(std::size_t part, const std::function<void(const WeightRange&, void*)>& read) override {
    const std::size_t n_host_parts = sides_[0].upload->parts().size();
    const Side& side = sides_[part < n_host_parts ? 0 : 1];
    side.upload->fill(part < n_host_parts ? part : part - n_host_parts, [&](WeightRange range, void* dst) {
      range.index = side.indices[range.index];
      read(range, dst);
    });
  }

  std::vector<Weight> finish() override {
    std::vector<Weight> weights(sides_[0].indices.size() + sides_[1].indices.size());
    for (const Side& side : sides_) {
      const std::vector<Weight> own = side.upload->finish();
      for (std::size_t i = 0; i < own.size(); i++) weights[side.indices[i]] = own[i];
    }
    return weights;
  }

 private:
  const std::array<Side, 2> sides_;
  std::vector<WeightPart> parts_;
};

}  // namespace

std::pair<SplitWeights::Share, SplitWeights::Share> SplitWeights::divide(
    std::span<const WeightSpec> specs) const {
  std::pair<Share, Share> shares;
  for (std::size_t i = 0; i < specs.size(); i++) {
    Share& share = specs[i].layer >= first_device_layer_ ? shares.second : shares.first;
    share.specs.push_back(specs[i]);
    share.indices.push_back(i);
  }
  return shares;
}

std::uint64_t SplitWeights::bytes(std::span<const WeightSpec> specs) const {
  const auto [host, device] = divide(specs);
  return host_.bytes(host.specs) + device_.bytes(device.specs);
}

std::unique_ptr<WeightUpload> SplitWeights::upload(std::span<const WeightSpec> specs) {
  auto [host, device] = divide(specs);
  return std::make_unique<SplitUpload>(
      SplitUpload::Side{host_.upload(host.specs), std::move(host.indices)},
      SplitUpload::Side{device_.upload(device.specs), std::move(device.indices)});
}

std::vector<Weight> SplitWeights::adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                                        std::shared_ptr<const void> owner) {
  const auto [host, device] = divide(specs);
  std::vector<const void*> host_data;
  for (const std::size_t i : host.indices) host_data.push_back(data[i]);
  const std::vector<Weight> adopted = host_.adopt(host.specs, host_data, std::move(owner));
  const std::unique_ptr<WeightUpload> upload = device_.upload(device.specs);
  for (std::size_t part = 0; part < upload->parts().size(); part++)
    upload->fill(part, [&, &indices = device.indices](const WeightRange& range, void* dst) {
      std::memcpy(dst, static_cast<const std::byte*>(data[indices[range.index]]) + range.offset, range.bytes);
    });
  const std::vector<Weight> uploaded = upload->finish();
  std::vector<Weight> weights(specs.size());
  for (std::size_t i = 0; i < adopted.size(); i++) weights[host.indices[i]] = adopted[i];
  for (std::size_t i = 0; i < uploaded.size(); i++) weights[device.indices[i]] = uploaded[i];
  return weights;
}

}  // namespace cria
