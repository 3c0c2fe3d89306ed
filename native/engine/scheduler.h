// What runs in the next step: sequences as lists of token ids and of pages. Touches no tensors.
//
// Continuous batching: a step takes one token of every sequence that decodes, then chunks of prompts within a
// budget of tokens, so that running streams never wait long for somebody's prompt (Yu et al., Orca, 2022;
// Agrawal et al., Sarathi, 2023). Pages are shared by all sequences that begin alike. When no page is left,
// the sequence that came last is preempted: its pages are released and it is computed again later (Kwon et
// al., PagedAttention, 2023).
//
// Order: a sequence's rank is the count of arrivals when it came, minus kHeadStart for every level of
// priority. The lowest rank goes first, always; so a sequence is overtaken by at most kHeadStart later ones
// per level, and none starves.
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
  std::vector<std::uint32_t> tokens;  // the prompt and what was sampled
  std::int32_t n_cached = 0;          // of these, how many have their K and V in the pages
  std::vector<PageId> pages;          // block table, in order of position
  bool is_active = false;             // admitted: holds pages. Else it waits
  bool is_paused = false;             // nobody reads what it produces
  std::int32_t n_reused = 0;          // tokens whose K and V were found, not computed, when first needed
  std::int32_t n_preemptions = 0;

  std::int32_t n_tokens() const { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t n_pending() const { return n_tokens() - n_cached; }

 private:
  friend class Scheduler;
  std::int32_t n_peak_ = 0;      // the largest n_cached so far
  std::uint64_t last_step_ = 0;  // when it last ran
};

/// Run tokens [first, first + count) of the sequence.
struct ScheduledChunk {
  SequenceId id = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
  bool reaches_end = false;  // the last known token is in the chunk: its logits are wanted
};

/// Before the chunks run: the first tokens of page `from` are copied to page `to`, or the whole page.
struct PageCopy {
  PageId from = 0;
  PageId to = 0;
};

struct SchedulerLimits {
  std::int32_t n_pages = 0;
  std::int32_t page_tokens = 0;
  std::int32_t max_batch_tokens = 0;  // of a step
  std::int32_t max_sequences = 0;     // of a step
};

/// The most tokens of prompts in a step: without a running stream that waits for it, and with one.
struct PrefillBudget {
  std::int32_t alone = 0;
  std::int32_t beside_decodes = 0;
};

struct SchedulerPlan {
  std::vector<PageCopy> copies;
  std::vector<ScheduledChunk> chunks;  // decodes first
  std::vector<SequenceId> preempted;
  // It alone holds pages, and they do not suffice: it cannot go on.
  std::optional<SequenceId> out_of_pages;
};

class Scheduler {
 public:
  static constexpr std::int64_t kHeadStart = 64;

  explicit Scheduler(const SchedulerLimits& limits);

  /// A new sequence of at least one token, waiting. `priority`: greater goes first.
  void add(SequenceId id, std::span<const std::uint32_t> tokens, std::int32_t priority = 0);
  /// Takes it out, wherever it is, and releases its pages. Unknown ids are ignored, here and below.
  void remove(SequenceId id);
  /// A paused sequence keeps its place and, while nobody else needs them, its pages.
  void set_paused(SequenceId id, bool paused);

  /// The next step, with pages taken for it. A plan that is not committed is made again; its copies must be
  /// carried out in any case, and copies_made() said then.
  SchedulerPlan plan(const PrefillBudget& budgets);
  /// Lets go of what the copies of the last plan were made from: it may be the last plan for long.
  void copies_made();
  /// The chunk ran: its tokens are cached, and its pages are there for others.
  void commit(const ScheduledChunk& chunk);
  /// A token was sampled.
  void append_token(SequenceId id, std::uint32_t token);
  /// The sequence is another one from now on (of at least one token), with none of its pages.
  void replace_tokens(SequenceId id, std::span<const std::uint32_t> tokens);

  /// Puts pages into the cache that hold the K and V of `tokens`, computed elsewhere: `write` fills them (or
  /// the caller, before the next plan); when it throws, nothing has changed. Empty when the pool has too few
  /// pages to spare.
  std::vector<PageId> adopt(std::span<const std::uint32_t> tokens,
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
  /// Pages held for the copies of the last plan.
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
  static PageId last_page(const ScheduledSequence& s) {
    return s.pages.empty() ? PrefixTree::kRoot : s.pages.back();
  }
  void reuse_full_pages(ScheduledSequence& s);
  void reuse_part_of_page(ScheduledSequence& s, SchedulerPlan& plan);
  bool is_being_computed(const ScheduledSequence& s, const SchedulerPlan& plan) const;
  bool take_pages(ScheduledSequence& s, std::int32_t n_cached, SchedulerPlan& plan);
  void add_chunk(ScheduledSequence& s, std::int32_t count, SchedulerPlan& plan);
  enum class Paused { none, only };
  ScheduledSequence* youngest(Paused paused);  // of the active ones; null when there is none
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
  std::vector<PageId> copied_from_;  // held until the copies of the last plan have been made
};

}  // namespace cria
