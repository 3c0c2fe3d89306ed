// The KV cache of a divided model. A page is one of the device, or several that follow each other on the
// host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"

namespace cria {

class SplitKvAllocator final : public KvAllocator {
 public:
  /// Layers from `first_device_layer` on are the device's; `ratio` pages of the host make one of the device.
  /// Both pools outlive it.
  SplitKvAllocator(KvAllocator& host, KvAllocator& device, std::int32_t first_device_layer,
                   std::int32_t ratio)
      : host_(host), device_(device), first_device_layer_(first_device_layer), ratio_(ratio) {}

  std::size_t page_bytes(const AttentionShape& shape, DType dtype) const override;
  /// The layers are as their side knows them: its ops need them with the side's own block table.
  std::unique_ptr<KvCache> create(const KvCacheSpec& spec) override;

 private:
  KvAllocator& host_;
  KvAllocator& device_;
  const std::int32_t first_device_layer_, ratio_;
};

}  // namespace cria
