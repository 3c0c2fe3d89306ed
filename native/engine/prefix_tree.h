// Which page holds which tokens after which prefix: a tree whose nodes are pages. The way from the root to a
// page spells the sequence whose K and V the pages hold, so that a request that begins the same way can use
// them. Touches no tensors; says nothing about who uses a page (see PagePool).
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

  /// The full page below `parent` that holds exactly these page_tokens tokens.
  std::optional<PageId> find(PageId parent, std::span<const std::uint32_t> tokens) const;

  /// The page below `parent` that begins with the most of `tokens`, and how many they are; the lowest id
  /// among equals.
  struct Overlap {
    PageId page = kRoot;
    std::int32_t n_tokens = 0;
  };
  Overlap longest_overlap(PageId parent, std::span<const std::uint32_t> tokens) const;

  /// Says what `page`, which is not in the tree, holds: 1 to page_tokens tokens that follow `parent` (kRoot
  /// or a full page of the tree). A full page whose content is in the tree already may not be inserted.
  void insert(PageId page, PageId parent, std::span<const std::uint32_t> tokens);
  /// `page`, which is in the tree, holds these tokens more. The same holds when that fills it.
  void extend(PageId page, std::span<const std::uint32_t> tokens);
  /// Takes a page out, with all that is below it; their ids are appended to `erased`.
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
  // Full pages by the hash of parent and tokens. Two contents of one hash: the second is not found by find().
  std::unordered_map<std::uint64_t, PageId> full_pages_;
};

}  // namespace cria
