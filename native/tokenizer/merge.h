// The merge loop of both kinds of BPE: repeatedly merges the pair of lowest rank, the leftmost on ties.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "core/cancel.h"
#include "tokenizer/pair_table.h"

namespace cria {

/// Symbols with this bit never merge; the encoder gives meaning to the other bits.
inline constexpr std::uint32_t kUnmergeable = 0x80000000;

/// Checks a cancel flag once per few thousand units of work.
class CancelPoll {
 public:
  explicit CancelPoll(const CancelFlag* flag) : flag_(flag) {}
  void tick(std::uint32_t units = 1) {
    if (units < left_) {
      left_ -= units;
      return;
    }
    left_ = kUnits;
    if (flag_) flag_->check();
  }

 private:
  static constexpr std::uint32_t kUnits = 4096;
  const CancelFlag* flag_;
  std::uint32_t left_ = kUnits;
};

/// Buffers of the merge loop, reused from call to call.
struct MergeBuffers {
  struct Link {
    std::uint32_t previous, next;
  };
  std::vector<std::uint32_t> symbols;
  std::vector<Link> links;
  std::vector<std::uint64_t> heap;

  /// Frees large buffers: one huge text must not hold its memory for the life of the tokenizer.
  void release_excess() {
    constexpr std::size_t kKeep = 1 << 16;
    if (symbols.capacity() > kKeep) symbols = {};
    if (links.capacity() > kKeep) links = {};
    if (heap.capacity() > kKeep) heap = {};
  }
};

namespace merge_detail {

inline constexpr std::uint32_t kEnd = 0xffffffff;
/// Up to this many symbols a scan is faster than a heap (measured).
inline constexpr std::size_t kScanLimit = 40;

inline Merge find_merge(const PairTable& pairs, std::uint32_t left, std::uint32_t right) noexcept {
  if ((left | right) & kUnmergeable) return {};
  return pairs.find(left, right);
}

/// Quadratic, but without bookkeeping: for the words of ordinary text.
inline void merge_by_scanning(const PairTable& pairs, std::vector<std::uint32_t>& symbols) {
  std::uint32_t ranks[kScanLimit], ids[kScanLimit];
  std::uint32_t* const s = symbols.data();
  std::size_t n = symbols.size();
  const auto look_up = [&](std::size_t i) {
    const Merge merge = find_merge(pairs, s[i], s[i + 1]);
    ranks[i] = merge.rank;
    ids[i] = merge.id;
  };
  for (std::size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n > 1) {
    const std::size_t best = static_cast<std::size_t>(std::min_element(ranks, ranks + n - 1) - ranks);
    if (ranks[best] == Merge::kNone) break;
    s[best] = ids[best];
    const std::size_t moved = n - best - 2;
    std::memmove(s + best + 1, s + best + 2, moved * sizeof *s);
    if (moved > 0) {
      std::memmove(ranks + best, ranks + best + 1, moved * sizeof *ranks);
      std::memmove(ids + best, ids + best + 1, moved * sizeof *ids);
    }
    --n;
    if (best + 1 < n) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  symbols.resize(n);
}

/// O(n log n): a heap of candidates over a linked list. A candidate is one number: its rank and the position
/// of its left symbol. It is stale when the pair at that position now has another rank or none. When the pair
/// changed but has the same rank, it is the next one to merge, so a candidate needs no more than these two.
/// `observe(left, right, id)` receives the candidates in the order in which SentencePiece adds them to its
/// agenda.
template <class Observe>
void merge_by_heap(const PairTable& pairs, MergeBuffers& buffers, CancelPoll& poll, Observe observe) {
  auto& [symbols, links, heap] = buffers;
  const std::greater<std::uint64_t> later;
  const auto n = static_cast<std::uint32_t>(symbols.size());
  links.resize(n);
  heap.clear();
  for (std::uint32_t i = 0; i < n; ++i) links[i] = {i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
  const auto propose = [&](std::uint32_t left, std::uint32_t right) {
    const Merge merge = find_merge(pairs, symbols[left], symbols[right]);
    if (!merge) return false;
    observe(symbols[left], symbols[right], merge.id);
    heap.push_back(static_cast<std::uint64_t>(merge.rank) << 32 | left);
    return true;
  };
  for (std::uint32_t i = 0; i + 1 < n; ++i) {
    poll.tick();
    propose(i, i + 1);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    poll.tick();
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto left = static_cast<std::uint32_t>(heap.back());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32);
    heap.pop_back();
    const std::uint32_t right = links[left].next;
    if (right == kEnd) continue;
    const Merge merge = find_merge(pairs, symbols[left], symbols[right]);
    if (merge.rank != rank) continue;
    symbols[left] = merge.id;
    symbols[right] = kEnd;  // has kUnmergeable set, so that candidates with this symbol are stale
    const std::uint32_t next = links[right].next;
    links[left].next = next;
    if (next != kEnd) links[next].previous = left;
    if (links[left].previous != kEnd && propose(links[left].previous, left)) {
      std::push_heap(heap.begin(), heap.end(), later);
    }
    if (next != kEnd && propose(left, next)) std::push_heap(heap.begin(), heap.end(), later);
  }
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i != kEnd;) {
    const std::uint32_t next = links[i].next;
    symbols[count++] = symbols[i];
    i = next;
  }
  symbols.resize(count);
}

}  // namespace merge_detail

/// Merges `buffers.symbols` in place.
inline void merge_symbols(const PairTable& pairs, MergeBuffers& buffers, CancelPoll& poll) {
  if (buffers.symbols.size() <= merge_detail::kScanLimit) {
    merge_detail::merge_by_scanning(pairs, buffers.symbols);
  } else {
    merge_detail::merge_by_heap(pairs, buffers, poll, [](std::uint32_t, std::uint32_t, std::uint32_t) {});
  }
}

/// The same, and reports every candidate when it arises.
template <class Observe>
void merge_symbols_observed(const PairTable& pairs, MergeBuffers& buffers, CancelPoll& poll,
                            Observe observe) {
  if (!buffers.symbols.empty()) merge_detail::merge_by_heap(pairs, buffers, poll, observe);
}

}  // namespace cria
