// Plans the next step. A sequence is a list of token ids and a list of pages; the scheduler touches no
// tensors.
//
// Continuous batching: a step takes one token of every decoding sequence, then chunks of prompts within a
// token budget, so that running streams never wait long for the prompt of another request (Yu et al., Orca,
// 2022; Agrawal et al., Sarathi, 2023). Sequences with a common prefix share its pages. When no page is left,
// the sequence with the highest rank is preempted: it releases its pages and is recomputed later (Kwon et
// al., PagedAttention, 2023).
//
// Order: the rank of a sequence is the number of arrivals before it, minus kHeadStart per level of priority.
// The lowest rank always goes first. A sequence is therefore overtaken by at most kHeadStart later ones per
// level, and none starves.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/page_pool.h"

namespace cria {

using SequenceId = std::uint64_t;

/// A sequence as the scheduler sees it.
struct ScheduledSequence {
  SequenceId id = 0;
  std::int64_t rank = 0;
  PageId root = PrefixTree::kRoot;    // shares pages with sequences of the same root only
  std::vector<std::uint32_t> tokens;  // the prompt and the sampled tokens
  std::int32_t n_cached = 0;          // leading tokens whose K and V are in the pages
  std::vector<PageId> pages;          // block table, in order of position
  bool is_active = false;             // admitted, and may hold pages; else waiting
  bool is_paused = false;             // the caller does not read its output
  std::int32_t n_reused = 0;          // tokens whose K and V were in the cache when first needed
  std::int32_t n_preemptions = 0;

  std::int32_t n_tokens() const { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t n_pending() const { return n_tokens() - n_cached; }

 private:
  friend class Scheduler;
  std::int32_t n_peak_ = 0;      // the largest n_cached so far
  std::uint64_t last_step_ = 0;  // the step in which it last ran
};

/// Tokens [first, first + count) of a sequence, to run in this step.
struct ScheduledChunk {
  SequenceId id = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
  bool reaches_end = false;  // it contains the last known token, whose logits are needed
};

/// A copy to make before the chunks run: the whole of page `from`, or at least its first tokens, to page
/// `to`.
struct PageCopy {
  PageId from = 0;
  PageId to = 0;
};

struct SchedulerLimits {
  std::int32_t n_pages = 0;
  std::int32_t page_tokens = 0;
  std::int32_t max_batch_tokens = 0;  // per step
  std::int32_t max_sequences = 0;     // per step
};

/// The maximal number of prompt tokens in a step without decoding sequences, and in one with some.
struct PrefillBudget {
  std::int32_t alone = 0;
  std::int32_t beside_decodes = 0;
};

struct SchedulerPlan {
  std::vector<PageCopy> copies;
  std::vector<ScheduledChunk> chunks;  // decodes first
  std::vector<SequenceId> preempted;
  /// The only active sequence, when the pool has too few pages for it to continue.
  std::optional<SequenceId> out_of_pages;
};

class Scheduler {
 public:
  static constexpr std::int64_t kHeadStart = 64;

  explicit Scheduler(const SchedulerLimits& limits);

  /// Queues a new sequence of at least one token. A higher `priority` goes first. `root`: see PrefixTree.
  void add(SequenceId id, std::span<const std::uint32_t> tokens, std::int32_t priority = 0,
           PageId root = PrefixTree::kRoot);
  /// Removes a sequence in any state and releases its pages. Unknown ids are ignored, here and below.
  void remove(SequenceId id);
  /// A paused sequence keeps its place and, until another sequence needs them, its pages.
  void set_paused(SequenceId id, bool paused);

  /// Plans the next step and takes the pages for it. Chunks that are not committed are planned again. The
  /// caller must make the plan's copies in any case, and then call copies_made().
  SchedulerPlan plan(const PrefillBudget& budgets);
  /// Releases the sources of the last plan's copies; the next plan may be far off.
  void copies_made();
  /// The chunk ran: marks its tokens as cached, and publishes its pages.
  void commit(const ScheduledChunk& chunk);
  /// Appends a sampled token.
  void append_token(SequenceId id, std::uint32_t token);
  /// Replaces the tokens by others (at least one), and releases the pages.
  void replace_tokens(SequenceId id, std::span<const std::uint32_t> tokens);

  /// Adds pages to the cache for the K and V of `tokens` after `root`, which were computed elsewhere. `write`
  /// fills them (or the caller does, before the next plan); if it throws, nothing changes. Returns the pages,
  /// or none when the pool has too few available.
  std::vector<PageId> adopt(std::span<const std::uint32_t> tokens, PageId root = PrefixTree::kRoot,
                            const std::function<void(std::span<const PageId>)>& write = nullptr);

  const ScheduledSequence* find(SequenceId id) const;
  std::size_t size() const { return sequences_.size(); }
  std::size_t active() const { return active_.size(); }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t paused() const { return n_paused_; }
  std::size_t active_paused() const { return n_active_paused_; }
  std::size_t waiting_paused() const { return n_paused_ - n_active_paused_; }
  bool has_work() const { return sequences_.size() > n_paused_; }
  const PagePool& pool() const { return pool_; }
  /// The sources of the last plan's copies.
  std::span<const PageId> copied_from() const { return copied_from_; }
  const SchedulerLimits& limits() const { return limits_; }
  std::int32_t pages_for(std::int32_t n_tokens) const {
    return (n_tokens + limits_.page_tokens - 1) / limits_.page_tokens;
  }

 private:
  using Order = std::set<std::pair<std::int64_t, SequenceId>>;  // by rank

  ScheduledSequence* find_mutable(SequenceId id);
  void plan_decodes(SchedulerPlan& plan);
  void plan_prefill(ScheduledSequence& s, std::int32_t& budget, SchedulerPlan& plan);
  bool admit(ScheduledSequence& s, SchedulerPlan& plan);
  bool has_slot(const SchedulerPlan& plan) const;
  bool can_reuse(const ScheduledSequence& s) const;
  std::span<const std::uint32_t> next_page(const ScheduledSequence& s) const;
  static PageId last_page(const ScheduledSequence& s) { return s.pages.empty() ? s.root : s.pages.back(); }
  void reuse_full_pages(ScheduledSequence& s);
  void reuse_part_of_page(ScheduledSequence& s, SchedulerPlan& plan);
  bool is_being_computed(const ScheduledSequence& s, const SchedulerPlan& plan) const;
  bool take_pages(ScheduledSequence& s, std::int32_t n_cached, SchedulerPlan& plan);
  void add_chunk(ScheduledSequence& s, std::int32_t count, SchedulerPlan& plan);
  enum class Paused { none, only };
  /// The active sequence with the highest rank among those paused or not paused; null when there is none.
  ScheduledSequence* lowest_priority(Paused paused);
  void preempt(ScheduledSequence& s, SchedulerPlan& plan);
  void release_pages(ScheduledSequence& s);
  void advance(ScheduledSequence& s, std::int32_t n_cached, bool reused);

  SchedulerLimits limits_;
  PagePool pool_;
  std::map<SequenceId, ScheduledSequence> sequences_;
  Order waiting_, active_;
  std::size_t n_paused_ = 0, n_active_paused_ = 0;
  std::int64_t n_arrivals_ = 0;
  std::uint64_t step_ = 0;
  std::vector<PageId> copied_from_;  // retained until the copies of the last plan are made
};

}  // namespace cria
