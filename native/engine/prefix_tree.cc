#include "engine/prefix_tree.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace cria {
namespace {

// The finalizer of splitmix64 (Steele, Lea, Flood 2014), chained over parent and tokens. Its quality affects
// only speed: find() compares the tokens.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::uint64_t content_hash(PageId parent, std::span<const std::uint32_t> tokens) {
  std::uint64_t hash = mix(static_cast<std::uint64_t>(static_cast<std::int64_t>(parent)));
  for (const std::uint32_t token : tokens) hash = mix(hash ^ token);
  return hash;
}

}  // namespace

PrefixTree::PrefixTree(std::int32_t n_pages, std::int32_t page_tokens)
    : page_tokens_(static_cast<std::size_t>(page_tokens)),
      nodes_(static_cast<std::size_t>(n_pages)),
      tokens_(static_cast<std::size_t>(n_pages) * page_tokens_) {}

std::span<const std::uint32_t> PrefixTree::tokens(PageId page) const {
  const auto n = static_cast<std::size_t>(node(page).n_tokens);
  return {tokens_.data() + static_cast<std::size_t>(page) * page_tokens_, n};
}

PageId PrefixTree::first_child(PageId parent) const {
  if (!is_root(parent)) return node(parent).first_child;
  const auto at = first_of_root_.find(parent);
  return at == first_of_root_.end() ? kNone : at->second;
}

void PrefixTree::set_first_child(PageId parent, PageId child) {
  if (!is_root(parent))
    node(parent).first_child = child;
  else if (child == kNone)
    first_of_root_.erase(parent);
  else
    first_of_root_.insert_or_assign(parent, child);
}

std::optional<PageId> PrefixTree::find(PageId parent, std::span<const std::uint32_t> wanted) const {
  const auto at = full_pages_.find(content_hash(parent, wanted));
  if (at == full_pages_.end() || node(at->second).parent != parent) return std::nullopt;
  if (!std::ranges::equal(tokens(at->second), wanted)) return std::nullopt;
  return at->second;
}

PrefixTree::Overlap PrefixTree::longest_overlap(PageId parent, std::span<const std::uint32_t> wanted) const {
  Overlap best;
  for (PageId page = first_child(parent); page != kNone; page = node(page).next) {
    const auto held = tokens(page);
    const auto n = static_cast<std::int32_t>(std::ranges::mismatch(held, wanted).in1 - held.begin());
    if (n > best.n_tokens || (n == best.n_tokens && n > 0 && page < best.page)) best = {page, n};
  }
  return best;
}

void PrefixTree::insert(PageId page, PageId parent, std::span<const std::uint32_t> held) {
  Node& n = node(page);
  if (n.n_tokens != 0 || held.empty() || held.size() > page_tokens_ ||
      (!is_root(parent) && static_cast<std::size_t>(node(parent).n_tokens) != page_tokens_))
    throw Error(ErrorCode::internal,
                "KV page " + std::to_string(page) + " cannot be put into the prefix tree");
  std::ranges::copy(held, token_slots(page));
  const PageId first = first_child(parent);
  set_first_child(parent, page);
  n = {.parent = parent, .next = first, .n_tokens = static_cast<std::int32_t>(held.size())};
  if (first != kNone) node(first).previous = page;
  index(page);
}

void PrefixTree::extend(PageId page, std::span<const std::uint32_t> more) {
  Node& n = node(page);
  if (n.n_tokens == 0 || static_cast<std::size_t>(n.n_tokens) + more.size() > page_tokens_)
    throw Error(ErrorCode::internal, "KV page " + std::to_string(page) + " has no room in the prefix tree");
  std::ranges::copy(more, token_slots(page) + n.n_tokens);
  n.n_tokens += static_cast<std::int32_t>(more.size());
  index(page);
}

void PrefixTree::index(PageId page) {
  if (static_cast<std::size_t>(node(page).n_tokens) == page_tokens_)
    full_pages_.emplace(content_hash(node(page).parent, tokens(page)), page);
}

void PrefixTree::erase(PageId page, std::vector<PageId>& erased) {
  while (!is_leaf(page)) {
    // Erases leaf by leaf, so that the recursion stays shallow: a long conversation is a deep tree.
    PageId leaf = page;
    while (!is_leaf(leaf)) leaf = node(leaf).first_child;
    erase(leaf, erased);
  }
  Node& n = node(page);
  if (n.n_tokens == 0) return;
  if (static_cast<std::size_t>(n.n_tokens) == page_tokens_) {
    const auto at = full_pages_.find(content_hash(n.parent, tokens(page)));
    if (at != full_pages_.end() && at->second == page) full_pages_.erase(at);
  }
  if (n.next != kNone) node(n.next).previous = n.previous;
  if (n.previous != kNone)
    node(n.previous).next = n.next;
  else
    set_first_child(n.parent, n.next);
  n = {};
  erased.push_back(page);
}

}  // namespace cria
