// Pages of the KV cache as integers: who holds which. Touches no tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace cria {

using PageId = std::int32_t;

class PagePool {
 public:
  explicit PagePool(std::int32_t n_pages);

  /// A page with one reference, or nothing when all are taken. The page taken last is given again first: it
  /// is warm.
  std::optional<PageId> take();
  void retain(PageId page);
  /// Drops a reference; the page is free when the last is gone. Throws ERR_INTERNAL for a page that is free
  /// already.
  void release(PageId page);

  std::int32_t size() const { return static_cast<std::int32_t>(references_.size()); }
  std::int32_t free_pages() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t used_pages() const { return size() - free_pages(); }
  std::int32_t references(PageId page) const { return references_.at(static_cast<std::size_t>(page)); }

 private:
  std::vector<std::int32_t> references_;
  std::vector<PageId> free_;
};

}  // namespace cria
