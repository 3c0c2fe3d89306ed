// One step of the engine: what the scheduler planned, through the decoder, to tokens.
#include <algorithm>
#include <string>
#include <utility>

#include "engine/engine.h"

namespace cria {
namespace {

// How long a running stream may wait for a step that carries somebody's prompt too.
constexpr double kStepTargetMs = 150;
constexpr std::int32_t kMinPrefill = 32;
// Enough tokens for a step's time to be the products', not the reading of the weights.
constexpr std::int32_t kTellingPrefill = 16;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

// Prompts get whole batches when nobody waits for a token, else about kStepTargetMs of a step.
PrefillBudget Engine::prefill_budget() const {
  const std::int32_t most = std::min(options_.prefill_chunk, decoder_->max_batch_tokens());
  std::int32_t beside = 2 * kMinPrefill;
  if (prefill_ms_per_token_ > 0)
    beside = static_cast<std::int32_t>(std::min<double>(most, kStepTargetMs / prefill_ms_per_token_));
  return {most, std::min(most, std::max(beside, kMinPrefill))};
}

void Engine::step() {
  if (!scheduler_.has_work()) return;
  const Clock::time_point begin = Clock::now();
  const SchedulerPlan plan = scheduler_.plan(prefill_budget());
  counts_.preemptions += plan.preempted.size();
  for (const SequenceId id : plan.preempted) {
    Active& active = active_.at(id);
    active.runs = false;
    if (active.sequence) active.sequence->preempted();
    send(id, StatusEvent{StatusEvent::Status::preempted});
  }
  try {
    for (const PageCopy& copy : plan.copies) decoder_->copy_page(copy.from, copy.to);
  } catch (...) {  // whoever runs may need them
    const Error error = current_error();
    for (const ScheduledChunk& chunk : plan.chunks) fail(chunk.id, error);
    return;
  }
  scheduler_.copies_made();
  if (plan.out_of_pages) {
    const RequestId id = *plan.out_of_pages;
    if (active_.at(id).sequence)
      finish(id, FinishReason::context);
    else
      fail(id, Error(ErrorCode::out_of_memory, "the KV cache has no free page",
                     {{"pages", static_cast<double>(scheduler_.pool().size())}}));
  }
  if (plan.chunks.empty()) return;

  std::int32_t n_tokens = 0;
  for (const ScheduledChunk& chunk : plan.chunks) {
    n_tokens += chunk.count;
    Active& active = active_.at(chunk.id);
    if (std::exchange(active.runs, true)) continue;
    if (!std::exchange(active.started, true) && active.sequence) active.sequence->started();
    send(chunk.id, StatusEvent{StatusEvent::Status::started});
  }
  deliver();  // what the step begins with is told before it takes its time
  run(plan.chunks);
  counts_.steps++;
  counts_.last_step_ms = ms_since(begin);
  counts_.longest_step_ms = std::max(counts_.longest_step_ms, counts_.last_step_ms);
  if (n_tokens >= kTellingPrefill) {
    const double per_token = counts_.last_step_ms / n_tokens;
    prefill_ms_per_token_ =
        prefill_ms_per_token_ > 0 ? 0.75 * prefill_ms_per_token_ + 0.25 * per_token : per_token;
  }
}

/// Runs the chunks as one batch. When that fails they run one by one, so that only the culprit falls.
void Engine::run(std::span<const ScheduledChunk> chunks) {
  try {
    if (!forward(chunks)) return;  // the next step drops the requests, or the engine stops
    draw_tokens(chunks);
    choose_greedy(chunks);
  } catch (...) {
    const Error error = current_error();
    if (chunks.size() == 1) {
      fail(chunks[0].id, error);
    } else {
      for (std::size_t i = 0; i < chunks.size(); i++) run(chunks.subspan(i, 1));
    }
    return;
  }
  std::size_t row = 0;
  for (const ScheduledChunk& chunk : chunks) {
    const std::size_t logits_row = row;
    if (chunk.reaches_end && !active_.at(chunk.id).saves_state) row++;
    try {
      take_results(chunk, logits_row);
    } catch (...) {
      fail(chunk.id, current_error());
    }
  }
}

/// False when it was stopped between two layers, because nobody waits for its results any more.
bool Engine::forward(std::span<const ScheduledChunk> chunks) {
  inputs_.clear();
  for (const ScheduledChunk& chunk : chunks) {
    const Active& active = active_.at(chunk.id);
    inputs_.push_back({active.tokens().subspan(static_cast<std::size_t>(chunk.first),
                                               static_cast<std::size_t>(chunk.count)),
                       chunk.first, scheduler_.find(chunk.id)->pages,
                       chunk.reaches_end && !active.saves_state});
  }
  return decoder_->forward(inputs_, [&] {
    return stop_flag_.cancelled() || std::ranges::all_of(chunks, [&](const ScheduledChunk& chunk) {
             return active_.at(chunk.id).must_end();
           });
  });
}

/// Lets the device draw the tokens of all sequences whose sampling needs nothing but the logits.
void Engine::draw_tokens(std::span<const ScheduledChunk> chunks) {
  draw_rows_.clear();
  drawn_.clear();
  bool any = false;
  for (const ScheduledChunk& chunk : chunks) {
    const Active& active = active_.at(chunk.id);
    if (!chunk.reaches_end || active.saves_state) continue;
    const std::optional<DrawRow> row = active.sequence ? active.sequence->draw_row() : std::nullopt;
    any |= row.has_value();
    draw_rows_.push_back(row.value_or(DrawRow{0, 0, 1, 0, 0, 0}));  // greedy: the cheapest
  }
  drawn_.assign(draw_rows_.size(), kNotDrawn);
  if (!any || !decoder_->draw(draw_rows_, drawn_)) {
    std::ranges::fill(drawn_, kNotDrawn);
    return;
  }
  std::size_t row = 0;
  for (const ScheduledChunk& chunk : chunks) {
    const Active& active = active_.at(chunk.id);
    if (!chunk.reaches_end || active.saves_state) continue;
    if (!active.sequence || !active.sequence->draw_row()) drawn_[row] = kNotDrawn;
    row++;
  }
}

/// Has the backend choose for all sequences that take the largest logit, those side by side at once.
void Engine::choose_greedy(std::span<const ScheduledChunk> chunks) {
  std::size_t row = 0, first = 0;  // of a run of them
  const auto end_run = [&] {
    if (row > first) decoder_->choose_greedy(first, row - first);
    first = row + 1;
  };
  for (const ScheduledChunk& chunk : chunks) {
    const Active& active = active_.at(chunk.id);
    if (!chunk.reaches_end || active.saves_state) continue;
    if (!active.sequence || !active.sequence->is_plain_greedy()) end_run();
    row++;
  }
  end_run();
}

void Engine::take_results(const ScheduledChunk& chunk, std::size_t logits_row) {
  Active& active = active_.at(chunk.id);
  scheduler_.commit(chunk);
  const auto n_prompt =
      active.sequence ? active.sequence->usage().prompt_tokens : static_cast<std::int32_t>(active.ids.size());
  counts_.prompt_tokens += static_cast<std::uint64_t>(std::clamp(n_prompt - chunk.first, 0, chunk.count));
  if (!chunk.reaches_end) return;
  if (active.sequence) {
    take_token(chunk, *active.sequence, logits_row);
    return;
  }
  if (active.saves_state) {
    save_state(chunk.id);
  } else {
    const std::span<const float> logits = decoder_->logits(logits_row);
    send(chunk.id, LogitsEvent{{logits.begin(), logits.end()}});
  }
  counts_.finished++;
  retire(chunk.id);
}

void Engine::take_token(const ScheduledChunk& chunk, Sequence& sequence, std::size_t logits_row) {
  if (sequence.usage().generated_tokens == 0) {
    const std::int32_t cached = scheduler_.find(chunk.id)->n_reused;
    counts_.cached_tokens += static_cast<std::uint64_t>(cached);
    sequence.prefilled(cached);
  }
  SampledToken token;
  if (sequence.is_plain_greedy())
    token.id = decoder_->greedy_token(logits_row);
  else if (drawn_[logits_row] != kNotDrawn)
    token.id = drawn_[logits_row];
  else
    token = sequence.sample(decoder_->logits(logits_row));
  const TokenId token_id = token.id;
  counts_.generated_tokens++;
  std::vector<Event> out;
  std::optional<EndEvent> end = sequence.accept(std::move(token), out);
  send_all(chunk.id, out);
  if (!end) {
    if (sequence.needs_shift()) {
      sequence.shift();
      scheduler_.replace_tokens(chunk.id, sequence.tokens());
    } else {
      scheduler_.append_token(chunk.id, token_id);
    }
    return;
  }
  if (end->reason == FinishReason::context && sequence.on_context_full() == OnContextFull::error) {
    fail(chunk.id, Error(ErrorCode::context_full,
                         "the context of " + std::to_string(options_.context_length) + " tokens is full: " +
                             std::to_string(end->usage.prompt_tokens) + " of the prompt and " +
                             std::to_string(end->usage.generated_tokens) + " generated",
                         {{"contextLength", static_cast<double>(options_.context_length)},
                          {"promptTokens", static_cast<double>(end->usage.prompt_tokens)},
                          {"generatedTokens", static_cast<double>(end->usage.generated_tokens)}}));
    return;
  }
  counts_.finished++;
  send(chunk.id, std::move(*end));
  retire(chunk.id);
}

void Engine::save_state(RequestId id) {
  const ScheduledSequence& s = *scheduler_.find(id);
  auto state = std::make_shared<KvState>();
  state->tokens = s.tokens;
  const auto used = static_cast<std::size_t>(scheduler_.pages_for(s.n_tokens()));
  state->pages = HugeMemory(used * decoder_->page_bytes(), "the saved state");
  decoder_->read_pages(std::span(s.pages).subspan(0, used), s.n_tokens(),
                       {state->pages.data(), state->pages.size()});
  send(id, StateSavedEvent{std::move(state)});
}

}  // namespace cria
