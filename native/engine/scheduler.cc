#include "engine/scheduler.h"

#include <algorithm>

namespace cria {

Scheduler::Scheduler(std::int32_t n_pages, std::int32_t page_tokens, std::int32_t max_batch_tokens)
    : pool_(n_pages), page_tokens_(page_tokens), max_batch_tokens_(max_batch_tokens) {}

void Scheduler::add(SequenceId id, std::int32_t n_tokens) { queue_.push_back({id, n_tokens, 0, {}}); }

void Scheduler::remove(SequenceId id) {
  const auto at = std::find_if(queue_.begin(), queue_.end(), [&](const auto& s) { return s.id == id; });
  if (at == queue_.end()) return;
  for (const PageId page : at->pages) pool_.release(page);
  queue_.erase(at);
}

Scheduler::Plan Scheduler::plan() {
  Plan plan;
  if (queue_.empty()) return plan;
  ScheduledSequence& head = queue_.front();
  ScheduledChunk chunk;
  chunk.id = head.id;
  chunk.first = head.n_cached;
  chunk.count = std::min(head.n_tokens - head.n_cached, max_batch_tokens_);
  chunk.reaches_end = chunk.first + chunk.count == head.n_tokens;
  const auto wanted = static_cast<std::size_t>((chunk.first + chunk.count + page_tokens_ - 1) / page_tokens_);
  while (head.pages.size() < wanted) {
    const std::optional<PageId> page = pool_.take();
    if (!page) {
      plan.out_of_pages = head.id;
      return plan;
    }
    head.pages.push_back(*page);
  }
  plan.chunks.push_back(chunk);
  return plan;
}

void Scheduler::commit(const ScheduledChunk& chunk) {
  if (ScheduledSequence* s = find_mutable(chunk.id)) s->n_cached = chunk.first + chunk.count;
}

void Scheduler::append_token(SequenceId id) {
  if (ScheduledSequence* s = find_mutable(id)) s->n_tokens++;
}

const ScheduledSequence* Scheduler::find(SequenceId id) const {
  const auto at = std::find_if(queue_.begin(), queue_.end(), [&](const auto& s) { return s.id == id; });
  return at == queue_.end() ? nullptr : &*at;
}

ScheduledSequence* Scheduler::find_mutable(SequenceId id) {
  return const_cast<ScheduledSequence*>(static_cast<const Scheduler*>(this)->find(id));
}

}  // namespace cria
