// Pages of the KV cache as integers: who holds which, and what is kept for requests to come. Touches no
// tensors.
//
// A page is in one of three states:
//   free    nobody holds it, and nothing is known of its content
//   used    sequences hold it: as many references as block tables that name it
//   cached  nobody holds it, but its content is in the prefix tree; taken back when no page is free, the one
//           that was released first (Least Recently Used) going first
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

  /// A page with one reference: a free one (the one freed last: it is warm), else the cached one that was
  /// released first, whose content is forgotten; nothing when all are used.
  std::optional<PageId> take();
  void retain(PageId page);
  /// Drops a reference. A page without any is cached when the prefix tree knows it, else free. A sequence
  /// releases its pages from the last to the first, so that no cached page outlives what precedes it. Throws
  /// ERR_INTERNAL for a page that nobody holds.
  void release(PageId page);

  /// Says that `page`, which somebody holds, has the K and V of `tokens` (1 to page_tokens of them, from its
  /// start) after the pages up to `parent`. Returns the page to use from now on: another one when its full
  /// content was there already (the caller's reference has moved to it), else `page` itself. Does nothing
  /// when `parent` is not in the tree.
  PageId publish(PageId page, PageId parent, std::span<const std::uint32_t> tokens);

  /// The full pages that hold the beginning of `tokens`, at most `most` tokens of it, each with a reference
  /// more.
  std::vector<PageId> match(std::span<const std::uint32_t> tokens, std::size_t most);

  std::int32_t size() const { return static_cast<std::int32_t>(pages_.size()); }
  std::int32_t page_tokens() const { return page_tokens_; }
  std::int32_t free_pages() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t cached_pages() const { return n_cached_; }
  std::int32_t used_pages() const { return size() - free_pages() - cached_pages(); }
  /// Of the used pages, those with more than one reference.
  std::int32_t shared_pages() const { return n_shared_; }
  /// What take() can give.
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
