// KV caches in the CPU's memory. A page of a layer holds one block per KV head (kernel_table.h).
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/backend.h"

namespace cria {

class CpuKvAllocator final : public KvAllocator {
 public:
  std::size_t page_bytes(const AttentionShape& shape, DType dtype) const override;
  std::unique_ptr<KvCache> create(const KvCacheSpec& spec) override;
};

}  // namespace cria
