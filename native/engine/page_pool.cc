#include "engine/page_pool.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace cria {

PagePool::PagePool(std::int32_t n_pages, std::int32_t page_tokens)
    : page_tokens_(page_tokens), pages_(static_cast<std::size_t>(n_pages)), tree_(n_pages, page_tokens) {
  free_.reserve(pages_.size());
  for (PageId page = n_pages; page-- > 0;) free_.push_back(page);
}

std::optional<PageId> PagePool::take() {
  if (free_.empty()) {
    if (oldest_ == kNone) return std::nullopt;
    // The least recently released page is a leaf of the tree, unless pages below it are still used; those
    // only lose their place in the tree.
    std::vector<PageId> erased;
    tree_.erase(oldest_, erased);
    for (const PageId page : erased) {
      if (!at(page).is_cached) continue;
      remove_cached(page);
      free_.push_back(page);
    }
  }
  const PageId page = free_.back();
  free_.pop_back();
  at(page).references = 1;
  return page;
}

void PagePool::retain(PageId page) {
  Page& p = at(page);
  if (p.references == 0 && !p.is_cached)
    throw Error(ErrorCode::internal, "KV page " + std::to_string(page) + " was retained while free");
  if (p.is_cached) remove_cached(page);
  if (++p.references == 2) n_shared_++;
}

void PagePool::release(PageId page) {
  Page& p = at(page);
  if (p.references == 0)
    throw Error(ErrorCode::internal, "KV page " + std::to_string(page) + " was released while free");
  p.references--;
  if (p.references == 1) n_shared_--;
  if (p.references > 0) return;
  if (tree_.contains(page))
    append_cached(page);
  else
    free_.push_back(page);
}

PageId PagePool::publish(PageId page, PageId parent, std::span<const std::uint32_t> tokens) {
  if (!PrefixTree::is_root(parent) && !tree_.contains(parent)) return page;
  if (static_cast<std::int32_t>(tokens.size()) == page_tokens_) {
    const std::optional<PageId> known = tree_.find(parent, tokens);
    if (known == page) return page;
    if (known) {
      retain(*known);
      // The other page has the content that was recorded of this one while it filled.
      std::vector<PageId> erased;
      if (at(page).references == 1 && tree_.contains(page)) tree_.erase(page, erased);
      release(page);
      return *known;
    }
  }
  if (!tree_.contains(page))
    tree_.insert(page, parent, tokens);
  else if (tree_.parent(page) == parent && tree_.n_tokens(page) < static_cast<std::int32_t>(tokens.size()))
    tree_.extend(page, tokens.subspan(static_cast<std::size_t>(tree_.n_tokens(page))));
  return page;
}

std::vector<PageId> PagePool::match(std::span<const std::uint32_t> tokens, std::size_t max_tokens,
                                    PageId root) {
  std::vector<PageId> pages;
  const auto n = static_cast<std::size_t>(page_tokens_);
  PageId parent = root;
  for (std::size_t first = 0; first + n <= std::min(tokens.size(), max_tokens); first += n) {
    const std::optional<PageId> page = tree_.find(parent, tokens.subspan(first, n));
    if (!page) break;
    retain(*page);
    pages.push_back(*page);
    parent = *page;
  }
  return pages;
}

void PagePool::append_cached(PageId page) {
  Page& p = at(page);
  p.is_cached = true;
  p.older = newest_;
  p.newer = kNone;
  if (newest_ != kNone)
    at(newest_).newer = page;
  else
    oldest_ = page;
  newest_ = page;
  n_cached_++;
}

void PagePool::remove_cached(PageId page) {
  Page& p = at(page);
  p.is_cached = false;
  if (p.older != kNone)
    at(p.older).newer = p.newer;
  else
    oldest_ = p.newer;
  if (p.newer != kNone)
    at(p.newer).older = p.older;
  else
    newest_ = p.older;
  n_cached_--;
}

}  // namespace cria
