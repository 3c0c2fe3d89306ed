#include "engine/adapter_roots.h"

#include <algorithm>

namespace cria {
namespace {

PageId root_of(std::size_t entry) { return PrefixTree::root(static_cast<std::int32_t>(entry) + 1); }

}  // namespace

PageId AdapterRoots::acquire(const AdapterSet& set, const PrefixTree& tree) {
  if (set.empty()) return PrefixTree::kRoot;
  std::size_t unused = entries_.size(), i = 0;
  for (; i < entries_.size() && entries_[i].set != set; i++)
    if (entries_[i].references == 0 && !tree.has_pages(root_of(i))) unused = std::min(unused, i);
  if (i == entries_.size()) {
    i = unused;
    if (i == entries_.size()) entries_.emplace_back();
    entries_[i].set = set;
  }
  entries_[i].references++;
  return root_of(i);
}

void AdapterRoots::release(PageId root) noexcept {
  if (root != PrefixTree::kRoot)
    entries_[static_cast<std::size_t>(PrefixTree::kRoot - root - 1)].references--;
}

}  // namespace cria
