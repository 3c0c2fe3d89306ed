// Pages of the KV cache as integers: their reference counts, and which stay cached for later requests.
// Touches no tensors.
//
// A page is in one of three states:
//   free    no references, no known content
//   used    one reference for each block table that contains it
//   cached  no references, but its content is in the prefix tree; when no page is free, the least recently
//           released one is evicted first (LRU)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/prefix_tree.h"

namespace cria {

class PagePool {
 public:
  PagePool(std::int32_t n_pages, std::int32_t page_tokens);

  /// A page with one reference: the page freed last (its memory is warm), else the least recently released
  /// cached page, whose content is evicted. Nothing when all pages are used.
  std::optional<PageId> take();
  /// Adds a reference to a used or cached page. Throws ERR_INTERNAL for a free one.
  void retain(PageId page);
  /// Drops a reference. A page without references becomes cached when it is in the prefix tree, else free. A
  /// sequence releases its pages from last to first, so that a cached page is never evicted before those that
  /// follow it. Throws ERR_INTERNAL for a page without references.
  void release(PageId page);

  /// Records that `page`, a used page, holds the K and V of `tokens` (1 to page_tokens of them, from its
  /// start) after those of the pages up to `parent`. Returns the page to use from now on: another page when
  /// that one already has the same full content (the caller's reference moves to it), else `page`. Does
  /// nothing when `parent` is not in the tree.
  PageId publish(PageId page, PageId parent, std::span<const std::uint32_t> tokens);

  /// The full pages that hold the longest known prefix of `tokens`, of at most `max_tokens`, after a root of
  /// the tree. Adds a reference to each.
  std::vector<PageId> match(std::span<const std::uint32_t> tokens, std::size_t max_tokens,
                            PageId root = PrefixTree::kRoot);

  std::int32_t size() const { return static_cast<std::int32_t>(pages_.size()); }
  std::int32_t page_tokens() const { return page_tokens_; }
  std::int32_t free_pages() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t cached_pages() const { return n_cached_; }
  std::int32_t used_pages() const { return size() - free_pages() - cached_pages(); }
  /// Used pages with more than one reference.
  std::int32_t shared_pages() const { return n_shared_; }
  /// How many pages take() can return.
  std::int32_t available_pages() const { return free_pages() + cached_pages(); }
  std::int32_t references(PageId page) const { return at(page).references; }
  const PrefixTree& tree() const { return tree_; }

 private:
  static constexpr PageId kNone = -1;

  struct Page {
    std::int32_t references = 0;
    PageId older = kNone, newer = kNone;  // neighbours among the cached pages
    bool is_cached = false;
  };
  Page& at(PageId page) { return pages_.at(static_cast<std::size_t>(page)); }
  const Page& at(PageId page) const { return pages_.at(static_cast<std::size_t>(page)); }
  void append_cached(PageId page);
  void remove_cached(PageId page);

  std::int32_t page_tokens_;
  std::vector<Page> pages_;
  std::vector<PageId> free_;
  PageId oldest_ = kNone, newest_ = kNone;  // ends of the list of cached pages
  std::int32_t n_cached_ = 0, n_shared_ = 0;
  PrefixTree tree_;
};

}  // namespace cria
