// Which root of the prefix tree belongs to which set of adapters: K and V depend on the adapters, so requests
// with different sets share no pages.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/prefix_tree.h"
#include "model/adapter.h"

namespace cria {

class AdapterRoots {
 public:
  /// The root of a set in normal form; PrefixTree::kRoot is that of the empty one. It stays the set's own
  /// until every acquire() has its release() and no page of the tree follows it; then another set may get it.
  PageId acquire(const AdapterSet& set, const PrefixTree& tree);
  void release(PageId root) noexcept;

  /// Sets that are remembered: at most one for each page and each acquire() without its release().
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    AdapterSet set;
    std::int32_t references = 0;
  };
  std::vector<Entry> entries_;  // entry i: root i + 1
};

}  // namespace cria
