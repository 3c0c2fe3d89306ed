// Which page holds which tokens after which prefix: a tree whose nodes are pages. The path from the root to a
// page spells the tokens whose K and V the pages hold, so that a request with the same prefix can reuse them.
// K and V also depend on what the model is at the time, such as its LoRA adapters, so there may be several
// roots, which share nothing. Touches no tensors and does not know who uses a page (see PagePool).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace cria {

using PageId = std::int32_t;

class PrefixTree {
 public:
  static constexpr PageId kRoot = -1;
  /// The i-th root; the first one is kRoot.
  static constexpr PageId root(std::int32_t i) { return kRoot - i; }
  static constexpr bool is_root(PageId page) { return page < 0; }

  PrefixTree(std::int32_t n_pages, std::int32_t page_tokens);

  /// The full child of `parent` that holds exactly these page_tokens tokens.
  std::optional<PageId> find(PageId parent, std::span<const std::uint32_t> tokens) const;

  /// The child of `parent` that has the longest common prefix with `tokens`, and its length; the lowest id of
  /// equal ones.
  struct Overlap {
    PageId page = kRoot;
    std::int32_t n_tokens = 0;
  };
  Overlap longest_overlap(PageId parent, std::span<const std::uint32_t> tokens) const;

  /// Adds `page`, which is not in the tree, with 1 to page_tokens tokens that follow `parent` (a root or a
  /// full page of the tree). A full page must not have the content of another one in the tree.
  void insert(PageId page, PageId parent, std::span<const std::uint32_t> tokens);
  /// Appends tokens to `page`, which is in the tree. If that fills it, it must not have the content of
  /// another one.
  void extend(PageId page, std::span<const std::uint32_t> tokens);
  /// Removes a page with its descendants, and appends their ids to `erased`.
  void erase(PageId page, std::vector<PageId>& erased);

  bool contains(PageId page) const { return node(page).n_tokens > 0; }
  PageId parent(PageId page) const { return node(page).parent; }
  bool is_leaf(PageId page) const { return node(page).first_child == kNone; }
  /// Whether pages follow this root.
  bool has_pages(PageId root) const { return first_of_root_.contains(root); }
  std::int32_t n_tokens(PageId page) const { return node(page).n_tokens; }
  std::span<const std::uint32_t> tokens(PageId page) const;

 private:
  static constexpr PageId kNone = std::numeric_limits<PageId>::min();

  struct Node {
    PageId parent = kRoot;
    PageId first_child = kNone, next = kNone, previous = kNone;
    std::int32_t n_tokens = 0;  // 0: not in the tree
  };

  const Node& node(PageId page) const { return nodes_.at(static_cast<std::size_t>(page)); }
  Node& node(PageId page) { return nodes_.at(static_cast<std::size_t>(page)); }
  PageId first_child(PageId parent) const;
  void set_first_child(PageId parent, PageId child);
  std::uint32_t* token_slots(PageId page) {
    return tokens_.data() + static_cast<std::size_t>(page) * page_tokens_;
  }
  void index(PageId page);

  std::size_t page_tokens_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> tokens_;                 // [n_pages, page_tokens]
  std::unordered_map<PageId, PageId> first_of_root_;  // of the roots that have pages
  // Full pages by the hash of parent and tokens. When two contents share a hash, find() misses the second
  // one.
  std::unordered_map<std::uint64_t, PageId> full_pages_;
};

}  // namespace cria
