// KV caches in a device's memory (kv_cache.h has the layout of a page).
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/context.h"

namespace cria::cuda {

class CudaKvAllocator final : public KvAllocator {
 public:
  /// `context` outlives it and its caches.
  explicit CudaKvAllocator(const Context& context) : context_(context) {}
  std::size_t page_bytes(const AttentionShape& shape, DType dtype) const override;
  std::unique_ptr<KvCache> create(const KvCacheSpec& spec) override;

 private:
  const Context& context_;
};

}  // namespace cria::cuda
