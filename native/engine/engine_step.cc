// One step of the engine: what the scheduler planned, through the decoder, to tokens.
#include <algorithm>
#include <string>
#include <utility>

#include "engine/engine.h"

namespace cria {
namespace {

// How long a running stream may wait for a step that also carries prompt tokens.
constexpr double kStepTargetMs = 150;
// Prompt tokens of such a step, at least.
constexpr std::int32_t kMinPrefill = 32;
// From this many tokens on, computation bounds a step, not reading weights, and its time tells the time
// per token.
constexpr std::int32_t kComputeBoundTokens = 16;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

/// Prompts get whole batches while no stream waits for a token, else about kStepTargetMs of a step.
PrefillBudget Engine::prefill_budget() const {
  const std::int32_t max = std::min(options_.prefill_chunk, decoder_->max_batch_tokens());
  std::int32_t with_streams = 2 * kMinPrefill;
  if (prefill_ms_per_token_ > 0)
    with_streams = static_cast<std::int32_t>(std::min<double>(max, kStepTargetMs / prefill_ms_per_token_));
  return {max, std::min(max, std::max(with_streams, kMinPrefill))};
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
    for (const PageCopy& copy : plan.copies) decoder_->kv().copy_page(copy.from, copy.to);
  } catch (...) {  // any chunk may need the copies
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
                     {{"pages", scheduler_.pool().size()}}));
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
  deliver();  // status events go out before the step takes its time
  run(plan.chunks);
  counts_.steps++;
  counts_.last_step_ms = ms_since(begin);
  counts_.longest_step_ms = std::max(counts_.longest_step_ms, counts_.last_step_ms);
  if (n_tokens >= kComputeBoundTokens) {
    const double per_token = counts_.last_step_ms / n_tokens;
    prefill_ms_per_token_ =
        prefill_ms_per_token_ > 0 ? 0.75 * prefill_ms_per_token_ + 0.25 * per_token : per_token;
  }
}

/// Runs the chunks as one batch. When that fails they run one by one, so that only the culprit fails.
void Engine::run(std::span<const ScheduledChunk> chunks) {
  try {
    build_step(chunks);
    if (!forward()) return;  // the next step drops the requests, or the engine stops
    decoder_->sample(sample_rows_, sampled_);
  } catch (...) {
    const Error error = current_error();
    if (chunks.size() == 1) {
      fail(chunks[0].id, error);
    } else {
      for (std::size_t i = 0; i < chunks.size(); i++) run(chunks.subspan(i, 1));
    }
    return;
  }
  for (const StepChunk& step_chunk : step_chunks_) {
    try {
      take_results(step_chunk);
    } catch (...) {
      fail(step_chunk.chunk->id, current_error());
    }
  }
}

void Engine::build_step(std::span<const ScheduledChunk> chunks) {
  step_chunks_.clear();
  inputs_.clear();
  sample_rows_.clear();
  for (const ScheduledChunk& chunk : chunks) {
    Active& active = active_.at(chunk.id);
    StepChunk& step_chunk = step_chunks_.emplace_back(StepChunk{.chunk = &chunk, .active = &active});
    if (chunk.reaches_end && !active.saves_state) {
      step_chunk.logits_row = static_cast<std::int32_t>(sample_rows_.size());
      sample_rows_.push_back(active.sequence ? active.sequence->sample_row() : SampleRow{.on_host = true});
    }
    inputs_.push_back({.tokens = active.tokens().subspan(static_cast<std::size_t>(chunk.first),
                                                         static_cast<std::size_t>(chunk.count)),
                       .first_position = chunk.first,
                       .block_table = scheduler_.find(chunk.id)->pages,
                       .wants_logits = step_chunk.logits_row >= 0,
                       .adapters = active.adapters});
  }
  sampled_.assign(sample_rows_.size(), kSampleOnHost);
}

/// False when it was stopped between two layers, because nobody waits for its results any more.
bool Engine::forward() {
  return decoder_->forward(inputs_, [&] {
    return stop_flag_.cancelled() ||
           std::ranges::all_of(step_chunks_, [](const StepChunk& c) { return c.active->must_end(); });
  });
}

void Engine::take_results(const StepChunk& step_chunk) {
  const ScheduledChunk& chunk = *step_chunk.chunk;
  Active& active = *step_chunk.active;
  scheduler_.commit(chunk);
  const auto n_prompt =
      active.sequence ? active.sequence->usage().prompt_tokens : static_cast<std::int32_t>(active.ids.size());
  counts_.prompt_tokens += static_cast<std::uint64_t>(std::clamp(n_prompt - chunk.first, 0, chunk.count));
  if (!chunk.reaches_end) return;
  if (active.sequence) {
    take_token(step_chunk);
    return;
  }
  if (active.saves_state) {
    save_state(chunk.id);
  } else {
    const std::span<const float> logits = decoder_->logits(static_cast<std::size_t>(step_chunk.logits_row));
    send(chunk.id, LogitsEvent{{logits.begin(), logits.end()}});
  }
  counts_.finished++;
  retire(chunk.id);
}

void Engine::take_token(const StepChunk& step_chunk) {
  const RequestId id = step_chunk.chunk->id;
  Sequence& sequence = *step_chunk.active->sequence;
  if (sequence.usage().generated_tokens == 0) {
    const std::int32_t cached = scheduler_.find(id)->n_reused;
    counts_.cached_tokens += static_cast<std::uint64_t>(cached);
    sequence.prefilled(cached);
  }
  const auto row = static_cast<std::size_t>(step_chunk.logits_row);
  SampledToken token{.id = sampled_[row]};
  if (token.id == kSampleOnHost) token = sequence.sample(decoder_->logits(row));
  const TokenId token_id = token.id;
  counts_.generated_tokens++;
  std::vector<Event> out;
  std::optional<EndEvent> end = sequence.accept(std::move(token), out);
  send_all(id, out);
  if (!end) {
    if (sequence.needs_shift()) {
      sequence.shift();
      scheduler_.replace_tokens(id, sequence.tokens());
    } else {
      scheduler_.append_token(id, token_id);
    }
    return;
  }
  if (end->reason == FinishReason::context && sequence.on_context_full() == OnContextFull::error)
    return fail_context_full(id, end->usage);
  counts_.finished++;
  send(id, std::move(*end));
  retire(id);
}

void Engine::fail_context_full(RequestId id, const Usage& usage) {
  fail(id, Error(ErrorCode::context_full,
                 "the context of " + std::to_string(options_.context_length) +
                     " tokens is full: " + std::to_string(usage.prompt_tokens) + " of the prompt and " +
                     std::to_string(usage.generated_tokens) + " generated",
                 {{"contextLength", options_.context_length},
                  {"promptTokens", usage.prompt_tokens},
                  {"generatedTokens", usage.generated_tokens}}));
}

void Engine::save_state(RequestId id) {
  const ScheduledSequence& s = *scheduler_.find(id);
  const KvCache& kv = decoder_->kv();
  auto state = std::make_shared<KvState>();
  state->tokens = s.tokens;
  const auto used = static_cast<std::size_t>(scheduler_.pages_for(s.n_tokens()));
  state->pages = HugeMemory(used * kv.page_bytes(), "the saved state");
  std::int32_t n_tokens = s.n_tokens();
  for (std::size_t i = 0; i < used; i++, n_tokens -= decoder_->backend().info().page_tokens)
    kv.read_page(s.pages[i], n_tokens, state->pages.data() + i * kv.page_bytes());
  send(id, StateSavedEvent{std::move(state)});
}

}  // namespace cria
