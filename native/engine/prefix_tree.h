// Which page holds which tokens after which prefix: a tree whose nodes are pages. The path from the root to a
// page spells the tokens whose K and V the pages hold, so that a request with the same prefix can reuse them.
// Touches no tensors and does not know who uses a page (see PagePool).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace cria {

using PageId = std::int32_t;

class PrefixTree {
 public:
  static constexpr PageId kRoot = -1;

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

  /// Adds `page`, which is not in the tree, with 1 to page_tokens tokens that follow `parent` (kRoot or a
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
  std::int32_t n_tokens(PageId page) const { return node(page).n_tokens; }
  std::span<const std::uint32_t> tokens(PageId page) const;

 private:
  static constexpr PageId kNone = -2;

  struct Node {
    PageId parent = kRoot;
    PageId first_child = kNone, next = kNone, previous = kNone;
    std::int32_t n_tokens = 0;  // 0: not in the tree
  };

  const Node& node(PageId page) const { return nodes_.at(static_cast<std::size_t>(page)); }
  Node& node(PageId page) { return nodes_.at(static_cast<std::size_t>(page)); }
  PageId& first_child(PageId parent) { return parent == kRoot ? first_of_root_ : node(parent).first_child; }
  std::uint32_t* token_slots(PageId page) {
    return tokens_.data() + static_cast<std::size_t>(page) * page_tokens_;
  }
  void index(PageId page);

  std::size_t page_tokens_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> tokens_;  // [n_pages, page_tokens]
  PageId first_of_root_ = kNone;
  // Full pages by the hash of parent and tokens. When two contents share a hash, find() misses the second
  // one.
  std::unordered_map<std::uint64_t, PageId> full_pages_;
};

}  // namespace cria
