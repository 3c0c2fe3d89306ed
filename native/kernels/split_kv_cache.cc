#include "kernels/split_kv_cache.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace cria {
namespace {

class SplitKvCache final : public KvCache {
 public:
  SplitKvCache(std::unique_ptr<KvCache> host, std::unique_ptr<KvCache> device, std::int32_t ratio,
               std::int32_t host_page_tokens, std::size_t layer_page_bytes)
      : host_(std::move(host)),
        device_(std::move(device)),
        ratio_(ratio),
        host_page_tokens_(host_page_tokens),
        layer_page_bytes_(layer_page_bytes) {
    for (const KvCache* side : {host_.get(), device_.get()})
      layers_.insert(layers_.end(), side->layers().begin(), side->layers().end());
  }

  std::span<const KvLayer> layers() const override { return layers_; }
  /// Every layer takes as much as the side that needs more for one.
  std::size_t page_bytes() const override { return layers_.size() * layer_page_bytes_; }

  void copy_page(std::int32_t from, std::int32_t to) override {
    for (std::int32_t i = 0; i < ratio_; i++) host_->copy_page(from * ratio_ + i, to * ratio_ + i);
    device_->copy_page(from, to);
  }

  /// The host's pages follow each other within a layer.
  void read_page(std::int32_t page, std::int32_t n_tokens, std::byte* to) const override {
    std::memset(to, 0, page_bytes());
    std::vector<std::byte> side(std::max(host_->page_bytes(), device_->page_bytes()));
    for (std::int32_t i = 0; i < ratio_; i++) {
      host_->read_page(page * ratio_ + i, std::max(0, n_tokens - i * host_page_tokens_), side.data());
      for_host_layers(i, [&](std::size_t at, std::size_t in_side, std::size_t bytes) {
        std::memcpy(to + at, side.data() + in_side, bytes);
      });
    }
    device_->read_page(page, n_tokens, side.data());
    for_device_layers([&](std::size_t at, std::size_t in_side, std::size_t bytes) {
      std::memcpy(to + at, side.data() + in_side, bytes);
    });
  }

  void write_page(std::int32_t page, const std::byte* from) override {
    std::vector<std::byte> side(std::max(host_->page_bytes(), device_->page_bytes()));
    for (std::int32_t i = 0; i < ratio_; i++) {
      for_host_layers(i, [&](std::size_t at, std::size_t in_side, std::size_t bytes) {
        std::memcpy(side.data() + in_side, from + at, bytes);
      });
      host_->write_page(page * ratio_ + i, side.data());
    }
    for_device_layers([&](std::size_t at, std::size_t in_side, std::size_t bytes) {
      std::memcpy(side.data() + in_side, from + at, bytes);
    });
    device_->write_page(page, side.data());
  }

 private:
  /// Calls visit(offset in a page of this cache, offset in a page of the host, bytes) for each layer's part
  /// of the i-th host page.
  template <class Visit>
  void for_host_layers(std::int32_t i, const Visit& visit) const {
    const std::size_t bytes = host_->layers().front().page_stride;
    for (std::size_t l = 0; l < host_->layers().size(); l++)
      visit(l * layer_page_bytes_ + static_cast<std::size_t>(i) * bytes, l * bytes, bytes);
  }
  template <class Visit>
  void for_device_layers(const Visit& visit) const {
    const std::size_t bytes = device_->layers().front().page_stride, first = host_->layers().size();
    for (std::size_t l = 0; l < device_->layers().size(); l++)
      visit((first + l) * layer_page_bytes_, l * bytes, bytes);
  }

  const std::unique_ptr<KvCache> host_, device_;
  const std::int32_t ratio_, host_page_tokens_;
  const std::size_t layer_page_bytes_;
  std::vector<KvLayer> layers_;
};

}  // namespace

std::size_t SplitKvAllocator::page_bytes(const AttentionShape& shape, DType dtype) const {
  return std::max(static_cast<std::size_t>(ratio_) * host_.page_bytes(shape, dtype),
                  device_.page_bytes(shape, dtype));
}

std::unique_ptr<KvCache> SplitKvAllocator::create(const KvCacheSpec& spec) {
  if (spec.n_pages > INT32_MAX / ratio_)
    throw Error(ErrorCode::invalid_argument, "kvMemory: expected at most " +
                                                 std::to_string(INT32_MAX / ratio_) + " pages, found " +
                                                 std::to_string(spec.n_pages));
  KvCacheSpec host = spec, device = spec;
  host.n_layers = first_device_layer_;
  host.n_pages = spec.n_pages * ratio_;
  device.n_layers = spec.n_layers - first_device_layer_;
  std::unique_ptr<KvCache> host_cache = host_.create(host);
  const std::int32_t host_page_tokens = host_cache->layers().front().page_tokens;
  return std::make_unique<SplitKvCache>(std::move(host_cache), device_.create(device), ratio_,
                                        host_page_tokens, page_bytes(spec.shape, spec.dtype));
}

}  // namespace cria
