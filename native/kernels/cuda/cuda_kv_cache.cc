#include "kernels/cuda/cuda_kv_cache.h"

#include <vector>

#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/kv_page.h"

namespace cria::cuda {
namespace {

class CudaKvCache final : public KvCache {
 public:
  CudaKvCache(const Context& context, const KvCacheSpec& spec) : context_(context), shape_(spec.shape) {
    const std::size_t page_bytes = kv_page_bytes(spec.shape, spec.dtype);
    const std::size_t layer_bytes = page_bytes * static_cast<std::size_t>(spec.n_pages);
    const std::size_t bytes = layer_bytes * static_cast<std::size_t>(spec.n_layers);
    context.bind();
    memory_ = allocate_array<std::byte>(bytes, "the KV cache");
    fill_bytes(memory_.get(), 0, bytes, context.stream());
    synchronize(context.stream());
    for (std::int32_t i = 0; i < spec.n_layers; i++)
      layers_.push_back({.pages = memory_.get() + layer_bytes * static_cast<std::size_t>(i),
                         .page_stride = page_bytes,
                         .dtype = spec.dtype,
                         .page_tokens = kKvPageTokens});
  }
  ~CudaKvCache() override { context_.settle(); }

  std::span<const KvLayer> layers() const override { return layers_; }
  std::size_t page_bytes() const override {
    return layers_.empty() ? 0 : layers_.size() * layers_.front().page_stride;
  }

  void copy_page(std::int32_t from, std::int32_t to) override {
    context_.bind();
    for (const KvLayer& layer : layers_)
      copy_on_device(page_of(layer, to), page_of(layer, from), layer.page_stride, context_.stream());
    synchronize(context_.stream());
  }

  void read_page(std::int32_t page, std::int32_t n_tokens, std::byte* to) const override {
    context_.bind();
    std::byte* at = to;
    for (const KvLayer& layer : layers_) {
      copy_to_host(at, page_of(layer, page), layer.page_stride, context_.stream());
      at += layer.page_stride;
    }
    synchronize(context_.stream());
    for (const KvLayer& layer : layers_) {
      clear_page_from(shape_, layer.dtype, n_tokens, to);
      to += layer.page_stride;
    }
  }

  void write_page(std::int32_t page, const std::byte* from) override {
    context_.bind();
    for (const KvLayer& layer : layers_) {
      copy_to_device(page_of(layer, page), from, layer.page_stride, context_.stream());
      from += layer.page_stride;
    }
    synchronize(context_.stream());
  }

 private:
  static std::byte* page_of(const KvLayer& layer, std::int32_t page) {
    return layer.pages + static_cast<std::size_t>(page) * layer.page_stride;
  }

  const Context& context_;
  const AttentionShape shape_;
  DeviceMemory<std::byte> memory_;
  std::vector<KvLayer> layers_;
};

}  // namespace

std::size_t CudaKvAllocator::page_bytes(const AttentionShape& shape, DType dtype) const {
  return kv_page_bytes(shape, dtype);
}

std::unique_ptr<KvCache> CudaKvAllocator::create(const KvCacheSpec& spec) {
  return std::make_unique<CudaKvCache>(context_, spec);
}

}  // namespace cria::cuda
