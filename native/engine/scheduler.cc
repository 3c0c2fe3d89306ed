#include "engine/scheduler.h"

#include <algorithm>
#include <ranges>

namespace cria {
namespace {

// A sequence waits a step for tokens that another one computes if they are at least this many, or all that it
// needs.
constexpr std::int32_t kWorthWaiting = 8;
// A prompt that takes more steps than this leaves a quarter of each step's budget to later prompts, so that a
// short prompt does not wait for a long one.
constexpr std::int32_t kLongPromptSteps = 4;

std::pair<std::int64_t, SequenceId> order_of(const ScheduledSequence& s) { return {s.rank, s.id}; }

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), pool_(limits.n_pages, limits.page_tokens) {}

// ---- changes reported by the engine ----

void Scheduler::add(SequenceId id, std::span<const std::uint32_t> tokens, std::int32_t priority,
                    PageId root) {
  ScheduledSequence& s = sequences_[id];
  s.id = id;
  s.root = root;
  s.rank = n_arrivals_++ - kHeadStart * priority;
  s.tokens.assign(tokens.begin(), tokens.end());
  waiting_.insert(order_of(s));
}

void Scheduler::remove(SequenceId id) {
  ScheduledSequence* s = find_mutable(id);
  if (!s) return;
  set_paused(id, false);
  release_pages(*s);
  active_.erase(order_of(*s));
  waiting_.erase(order_of(*s));
  sequences_.erase(id);
}

void Scheduler::set_paused(SequenceId id, bool paused) {
  ScheduledSequence* s = find_mutable(id);
  if (!s || s->is_paused == paused) return;
  s->is_paused = paused;
  const std::size_t one = paused ? 1 : static_cast<std::size_t>(-1);
  n_paused_ += one;
  if (s->is_active) n_active_paused_ += one;
}

void Scheduler::commit(const ScheduledChunk& chunk) {
  ScheduledSequence* s = find_mutable(chunk.id);
  if (!s) return;
  advance(*s, chunk.first + chunk.count, false);
  const std::int32_t n = limits_.page_tokens;
  for (std::int32_t page = chunk.first / n; page < pages_for(s->n_cached); page++) {
    const auto at = static_cast<std::size_t>(page);
    const PageId parent = page == 0 ? s->root : s->pages[at - 1];
    const std::int32_t count = std::min(n, s->n_cached - page * n);
    s->pages[at] = pool_.publish(
        s->pages[at], parent,
        std::span(s->tokens).subspan(at * static_cast<std::size_t>(n), static_cast<std::size_t>(count)));
  }
}

void Scheduler::append_token(SequenceId id, std::uint32_t token) {
  if (ScheduledSequence* s = find_mutable(id)) s->tokens.push_back(token);
}

void Scheduler::replace_tokens(SequenceId id, std::span<const std::uint32_t> tokens) {
  ScheduledSequence* s = find_mutable(id);
  if (!s) return;
  release_pages(*s);
  s->tokens.assign(tokens.begin(), tokens.end());
}

std::vector<PageId> Scheduler::adopt(std::span<const std::uint32_t> tokens, PageId root,
                                     const std::function<void(std::span<const PageId>)>& write) {
  const std::int32_t wanted = pages_for(static_cast<std::int32_t>(tokens.size()));
  if (wanted > pool_.available_pages()) return {};
  std::vector<PageId> pages;
  while (static_cast<std::int32_t>(pages.size()) < wanted) pages.push_back(*pool_.take());
  try {
    if (write) write(pages);
  } catch (...) {
    for (const PageId page : std::views::reverse(pages)) pool_.release(page);
    throw;
  }
  const auto n = static_cast<std::size_t>(limits_.page_tokens);
  PageId parent = root;
  std::vector<PageId> held;
  for (std::size_t i = 0; i < pages.size(); i++) {
    parent = pool_.publish(pages[i], parent, tokens.subspan(i * n, std::min(n, tokens.size() - i * n)));
    held.push_back(parent);
  }
  // Pages whose content was already in the cache are free again; that they were written is harmless.
  for (const PageId page : std::views::reverse(held)) pool_.release(page);
  return pages;
}

const ScheduledSequence* Scheduler::find(SequenceId id) const {
  const auto at = sequences_.find(id);
  return at == sequences_.end() ? nullptr : &at->second;
}

ScheduledSequence* Scheduler::find_mutable(SequenceId id) {
  const auto at = sequences_.find(id);
  return at == sequences_.end() ? nullptr : &at->second;
}

// ---- the plan ----

SchedulerPlan Scheduler::plan(const PrefillBudget& budgets) {
  SchedulerPlan plan;
  step_++;
  copies_made();

  plan_decodes(plan);
  const auto n_decodes = static_cast<std::int32_t>(plan.chunks.size());
  std::int32_t budget =
      std::min(n_decodes > 0 ? budgets.beside_decodes : budgets.alone, limits_.max_batch_tokens - n_decodes);

  // Merges active and waiting sequences by rank. The first one that cannot be admitted holds back all later
  // ones.
  const std::vector<std::pair<std::int64_t, SequenceId>> active(active_.begin(), active_.end());
  auto running = active.begin();
  auto waiting = waiting_.begin();
  bool admits = true;
  while (budget > 0) {
    while (waiting != waiting_.end() && sequences_.at(waiting->second).is_paused) ++waiting;
    const bool has_waiting = admits && waiting != waiting_.end();
    if (has_waiting && (running == active.end() || *waiting < *running)) {
      const auto order = *waiting;
      ScheduledSequence& s = sequences_.at(order.second);
      admits = admit(s, plan);
      if (admits) plan_prefill(s, budget, plan);
      waiting = waiting_.upper_bound(order);  // preemption adds to the queue
    } else if (running != active.end()) {
      ScheduledSequence& s = sequences_.at((running++)->second);
      if (s.is_active && !s.is_paused && s.n_pending() > 1) plan_prefill(s, budget, plan);
    } else {
      break;
    }
  }
  return plan;
}

void Scheduler::copies_made() {
  for (const PageId page : copied_from_) pool_.release(page);
  copied_from_.clear();
}

bool Scheduler::has_slot(const SchedulerPlan& plan) const {
  return static_cast<std::int32_t>(plan.chunks.size()) < limits_.max_sequences;
}

void Scheduler::plan_decodes(SchedulerPlan& plan) {
  std::vector<ScheduledSequence*> decodes;
  for (const auto& [rank, id] : active_) {
    ScheduledSequence& s = sequences_.at(id);
    if (!s.is_paused && s.n_pending() == 1) decodes.push_back(&s);
  }
  // One slot is reserved for a prompt if one is active.
  const bool all_decode = decodes.size() == active_.size() - n_active_paused_;
  const auto max_decodes =
      static_cast<std::size_t>(std::min(limits_.max_sequences, limits_.max_batch_tokens) -
                               (all_decode || limits_.max_sequences == 1 ? 0 : 1));
  if (decodes.size() > max_decodes) {
    // More than fit in a step, after pauses ended: those that waited longest run, by rank where they are
    // equal.
    std::ranges::sort(decodes, {},
                      [](const ScheduledSequence* s) { return std::pair(s->last_step_, order_of(*s)); });
    decodes.resize(max_decodes);
    std::ranges::sort(decodes, {}, [](const ScheduledSequence* s) { return order_of(*s); });
  }
  for (ScheduledSequence* s : decodes)
    if (s->is_active && take_pages(*s, s->n_tokens(), plan)) add_chunk(*s, 1, plan);
}

void Scheduler::plan_prefill(ScheduledSequence& s, std::int32_t& budget, SchedulerPlan& plan) {
  if (budget <= 0 || !has_slot(plan)) return;
  reuse_full_pages(s);
  if (is_being_computed(s, plan)) return;
  reuse_part_of_page(s, plan);
  std::int32_t max_count = budget;
  const bool others_want_more = sequences_.size() - n_paused_ > plan.chunks.size() + 1;
  if (s.n_pending() / kLongPromptSteps >= budget && others_want_more)
    max_count = std::max(1, budget - budget / 4);
  const std::int32_t count = std::min(s.n_pending(), max_count);
  if (!take_pages(s, s.n_cached + count, plan)) return;
  add_chunk(s, count, plan);
  budget -= count;
}

// Admits the head of the queue when there are pages for all of its tokens and one more for each running
// sequence. Preempts paused sequences and those of higher rank to make room. False when it must wait.
bool Scheduler::admit(ScheduledSequence& s, SchedulerPlan& plan) {
  std::vector<PageId> found = pool_.match(s.tokens, s.tokens.size() - 1, s.root);
  const std::int32_t wanted = pages_for(s.n_tokens()) - static_cast<std::int32_t>(found.size());
  for (;;) {
    const auto running = static_cast<std::int32_t>(active_.size() - n_active_paused_);
    const bool lacks_pages = !active_.empty() && wanted + running > pool_.available_pages();
    if (!lacks_pages && running < limits_.max_sequences && has_slot(plan)) break;
    ScheduledSequence* victim = lacks_pages ? lowest_priority(Paused::only) : nullptr;
    if (!victim) {
      victim = lowest_priority(Paused::none);
      if (order_of(*victim) < order_of(s)) {
        for (const PageId page : std::views::reverse(found)) pool_.release(page);
        return false;
      }
    }
    preempt(*victim, plan);
  }
  waiting_.erase(order_of(s));
  active_.insert(order_of(s));
  s.is_active = true;
  s.pages = std::move(found);
  advance(s, static_cast<std::int32_t>(s.pages.size()) * limits_.page_tokens, true);
  return true;
}

// Whether the cached tokens fill the sequence's pages exactly and these are in the prefix tree.
bool Scheduler::can_reuse(const ScheduledSequence& s) const {
  if (s.n_cached != static_cast<std::int32_t>(s.pages.size()) * limits_.page_tokens) return false;
  return s.pages.empty() || pool_.tree().contains(s.pages.back());
}

// The next tokens, at most a page of them. Excludes the last one, which must be computed for its logits.
std::span<const std::uint32_t> Scheduler::next_page(const ScheduledSequence& s) const {
  const std::int32_t count = std::min(limits_.page_tokens, s.n_pending() - 1);
  return std::span(s.tokens).subspan(static_cast<std::size_t>(s.n_cached), static_cast<std::size_t>(count));
}

// Takes over full pages that other sequences have computed since.
void Scheduler::reuse_full_pages(ScheduledSequence& s) {
  if (!can_reuse(s)) return;
  while (s.n_pending() > limits_.page_tokens) {
    const std::optional<PageId> page = pool_.tree().find(last_page(s), next_page(s));
    if (!page) return;
    pool_.retain(*page);
    s.pages.push_back(*page);
    advance(s, s.n_cached + limits_.page_tokens, true);
  }
}

// Copies a page that begins with the next tokens: that costs far less than computing one token.
void Scheduler::reuse_part_of_page(ScheduledSequence& s, SchedulerPlan& plan) {
  if (!can_reuse(s)) return;
  const PrefixTree::Overlap overlap = pool_.tree().longest_overlap(last_page(s), next_page(s));
  if (overlap.n_tokens == 0) return;
  pool_.retain(overlap.page);  // until the copy is made
  const std::optional<PageId> copy = pool_.take();
  if (!copy) {
    pool_.release(overlap.page);
    return;
  }
  copied_from_.push_back(overlap.page);
  plan.copies.push_back({.from = overlap.page, .to = *copy});
  s.pages.push_back(*copy);
  advance(s, s.n_cached + overlap.n_tokens, true);
}

// Whether a chunk of this step computes the tokens that the sequence needs next. It then waits and reuses
// them.
bool Scheduler::is_being_computed(const ScheduledSequence& s, const SchedulerPlan& plan) const {
  const std::int32_t n = limits_.page_tokens, page = s.n_cached / n;
  const auto before = static_cast<std::size_t>(page);
  for (const ScheduledChunk& chunk : plan.chunks) {
    const ScheduledSequence& other = sequences_.at(chunk.id);
    if (chunk.first / n != page) continue;
    if (page == 0 ? other.root != s.root : other.pages[before - 1] != s.pages[before - 1]) continue;
    const auto start = static_cast<std::size_t>(page * n);
    const auto computed =
        std::span(other.tokens).subspan(0, static_cast<std::size_t>(chunk.first + chunk.count));
    const auto needed = std::span(s.tokens).subspan(0, s.tokens.size() - 1);
    const auto common_end = std::ranges::mismatch(computed.subspan(start), needed.subspan(start)).in1;
    const auto n_common = static_cast<std::int32_t>(common_end - computed.begin());
    const std::int32_t gain = n_common - std::max(s.n_cached, chunk.first);
    if (gain >= 2 && gain >= std::min(kWorthWaiting, s.n_pending() - 1)) return true;
  }
  return false;
}

// Takes pages for the first `n_cached` tokens, preempting others where necessary. False when the sequence
// must wait, was preempted itself or cannot continue.
bool Scheduler::take_pages(ScheduledSequence& s, std::int32_t n_cached, SchedulerPlan& plan) {
  const auto wanted = static_cast<std::size_t>(pages_for(n_cached));
  while (s.pages.size() < wanted) {
    if (const std::optional<PageId> page = pool_.take()) {
      s.pages.push_back(*page);
      continue;
    }
    ScheduledSequence* victim = lowest_priority(Paused::only);
    if (!victim) victim = lowest_priority(Paused::none);
    if (victim == &s && active_.size() == 1) {
      // No other sequence is active. The sources of copies become available with the next plan.
      if (copied_from_.empty()) plan.out_of_pages = s.id;
      return false;
    }
    preempt(*victim, plan);
    if (victim == &s) return false;
  }
  return true;
}

void Scheduler::add_chunk(ScheduledSequence& s, std::int32_t count, SchedulerPlan& plan) {
  plan.chunks.push_back(
      {.id = s.id, .first = s.n_cached, .count = count, .reaches_end = count == s.n_pending()});
  s.last_step_ = step_;
}

ScheduledSequence* Scheduler::lowest_priority(Paused paused) {
  for (const auto& [rank, id] : std::views::reverse(active_)) {
    ScheduledSequence& s = sequences_.at(id);
    if (s.is_paused == (paused == Paused::only)) return &s;
  }
  return nullptr;
}

void Scheduler::preempt(ScheduledSequence& s, SchedulerPlan& plan) {
  std::erase_if(plan.chunks, [&](const ScheduledChunk& c) { return c.id == s.id; });
  std::erase_if(plan.copies,
                [&](const PageCopy& c) { return std::ranges::find(s.pages, c.to) != s.pages.end(); });
  plan.preempted.push_back(s.id);
  s.n_preemptions++;
  release_pages(s);
  active_.erase(order_of(s));
  waiting_.insert(order_of(s));
  s.is_active = false;
  if (s.is_paused) n_active_paused_--;
}

void Scheduler::release_pages(ScheduledSequence& s) {
  for (const PageId page : std::views::reverse(s.pages)) pool_.release(page);
  s.pages.clear();
  s.n_cached = 0;
}

void Scheduler::advance(ScheduledSequence& s, std::int32_t n_cached, bool reused) {
  if (reused) s.n_reused += std::max(0, n_cached - std::max(s.n_cached, s.n_peak_));
  s.n_cached = n_cached;
  s.n_peak_ = std::max(s.n_peak_, n_cached);
}

}  // namespace cria
