// What runs in the next step: sequences as counts of tokens and lists of pages. Touches no tensors.
//
// Sequences run one after the other, first come, first served: the head of the queue prefills in chunks, then
// decodes.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "engine/page_pool.h"

namespace cria {

using SequenceId = std::uint64_t;

/// A sequence as the scheduler sees it.
struct ScheduledSequence {
  SequenceId id = 0;
  std::int32_t n_tokens = 0;  // known tokens: the prompt and what was sampled
  std::int32_t n_cached = 0;  // of these, how many have their K and V in the pages
  std::vector<PageId> pages;  // block table, in order of position
};

/// Run tokens [first, first + count) of the sequence.
struct ScheduledChunk {
  SequenceId id = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
  bool reaches_end = false;  // the last known token is in the chunk: its logits are wanted
};

class Scheduler {
 public:
  Scheduler(std::int32_t n_pages, std::int32_t page_tokens, std::int32_t max_batch_tokens);

  /// Puts a sequence of at least one token at the end of the queue.
  void add(SequenceId id, std::int32_t n_tokens);
  /// Takes it out, wherever it is, and frees its pages. Unknown ids are ignored.
  void remove(SequenceId id);

  /// The chunks of the next step, with pages taken for them; empty when nothing waits. `out_of_pages` is the
  /// sequence that cannot go on because no page is free.
  struct Plan {
    std::vector<ScheduledChunk> chunks;
    std::optional<SequenceId> out_of_pages;
  };
  Plan plan();

  /// The chunk ran: its tokens are cached.
  void commit(const ScheduledChunk& chunk);
  /// A token was sampled.
  void append_token(SequenceId id);

  const ScheduledSequence* find(SequenceId id) const;
  std::size_t size() const { return queue_.size(); }
  const PagePool& pool() const { return pool_; }
  std::int32_t page_tokens() const { return page_tokens_; }
  std::int64_t capacity_tokens() const { return static_cast<std::int64_t>(pool_.size()) * page_tokens_; }

 private:
  ScheduledSequence* find_mutable(SequenceId id);

  PagePool pool_;
  std::int32_t page_tokens_;
  std::int32_t max_batch_tokens_;
  std::deque<ScheduledSequence> queue_;
};

}  // namespace cria
