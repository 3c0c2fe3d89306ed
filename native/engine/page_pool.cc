#include "engine/page_pool.h"

#include <string>

#include "core/error.h"

namespace cria {

PagePool::PagePool(std::int32_t n_pages) : references_(static_cast<std::size_t>(n_pages), 0) {
  free_.reserve(references_.size());
  for (PageId page = n_pages; page-- > 0;) free_.push_back(page);
}

std::optional<PageId> PagePool::take() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  references_[static_cast<std::size_t>(page)] = 1;
  return page;
}

void PagePool::retain(PageId page) {
  std::int32_t& count = references_.at(static_cast<std::size_t>(page));
  if (count == 0)
    throw Error(ErrorCode::internal, "KV page " + std::to_string(page) + " is retained while free");
  count++;
}

void PagePool::release(PageId page) {
  std::int32_t& count = references_.at(static_cast<std::size_t>(page));
  if (count == 0) throw Error(ErrorCode::internal, "KV page " + std::to_string(page) + " is released twice");
  if (--count == 0) free_.push_back(page);
}

}  // namespace cria
