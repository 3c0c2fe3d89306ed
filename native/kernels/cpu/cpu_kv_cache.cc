#include "kernels/cpu/cpu_kv_cache.h"

#include <cstring>
#include <vector>

#include "core/huge_memory.h"
#include "kernels/cpu/kernel_table.h"

namespace cria {
namespace {

std::size_t element_bytes(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(const KvCacheSpec& spec, std::size_t page_bytes) : shape_(spec.shape) {
    const std::size_t layer_bytes = page_bytes * static_cast<std::size_t>(spec.n_pages);
    memory_ = HugeMemory(layer_bytes * static_cast<std::size_t>(spec.n_layers), "the KV cache");
    for (std::int32_t i = 0; i < spec.n_layers; i++)
      layers_.push_back({.pages = memory_.data() + layer_bytes * static_cast<std::size_t>(i),
                         .page_stride = page_bytes,
                         .dtype = spec.dtype,
                         .page_tokens = kCpuPageTokens});
  }

  std::span<const KvLayer> layers() const override { return layers_; }
  std::size_t page_bytes() const override {
    return layers_.empty() ? 0 : layers_.size() * layers_.front().page_stride;
  }

  void copy_page(std::int32_t from, std::int32_t to) override {
    for (const KvLayer& layer : layers_)
      std::memcpy(page_of(layer, to), page_of(layer, from), layer.page_stride);
  }

  void read_page(std::int32_t page, std::int32_t n_tokens, std::byte* to) const override {
    for (const KvLayer& layer : layers_) {
      std::memcpy(to, page_of(layer, page), layer.page_stride);
      if (n_tokens < kCpuPageTokens) clear_from(layer, n_tokens, to);
      to += layer.page_stride;
    }
  }

  void write_page(std::int32_t page, const std::byte* from) override {
    for (const KvLayer& layer : layers_) {
      std::memcpy(page_of(layer, page), from, layer.page_stride);
      from += layer.page_stride;
    }
  }

 private:
  static std::byte* page_of(const KvLayer& layer, std::int32_t page) {
    return layer.pages + static_cast<std::size_t>(page) * layer.page_stride;
  }

  /// Zeros positions n_tokens .. of a layer's page. A block is K [head_dim, page_tokens], then V
  /// [page_tokens, head_dim and padding].
  void clear_from(const KvLayer& layer, std::int32_t n_tokens, std::byte* page) const {
    const std::size_t element = element_bytes(layer.dtype);
    const std::size_t block_bytes = kv_block_elements(shape_.head_dim) * element;
    const auto head_dim = static_cast<std::size_t>(shape_.head_dim), n = static_cast<std::size_t>(n_tokens);
    const std::size_t k_bytes = head_dim * kCpuPageTokens * element;
    const std::size_t v_row_bytes = (block_bytes - k_bytes) / kCpuPageTokens;
    for (std::byte* block = page; block < page + layer.page_stride; block += block_bytes) {
      for (std::size_t d = 0; d < head_dim; d++)
        std::memset(block + (d * kCpuPageTokens + n) * element, 0, (kCpuPageTokens - n) * element);
      std::memset(block + k_bytes + v_row_bytes * n, 0, v_row_bytes * (kCpuPageTokens - n));
    }
  }

  const AttentionShape shape_;
  HugeMemory memory_;
  std::vector<KvLayer> layers_;
};

}  // namespace

std::size_t CpuKvAllocator::page_bytes(const AttentionShape& shape, DType dtype) const {
  return kv_block_elements(shape.head_dim) * element_bytes(dtype) *
         static_cast<std::size_t>(shape.n_kv_heads);
}

std::unique_ptr<KvCache> CpuKvAllocator::create(const KvCacheSpec& spec) {
  return std::make_unique<CpuKvCache>(spec, page_bytes(spec.shape, spec.dtype));
}

}  // namespace cria
