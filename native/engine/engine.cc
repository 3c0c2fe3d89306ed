#include "engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

namespace cria {
namespace {

Error disposed_error() { return {ErrorCode::disposed, "the model was disposed"}; }
Error aborted_error() { return {ErrorCode::aborted, "the request was aborted"}; }

Error timeout_error(double timeout_ms) {
  return {
      ErrorCode::timeout,
      "the request exceeded its timeout of " + std::to_string(static_cast<std::int64_t>(timeout_ms)) + " ms",
      {{"timeoutMs", timeout_ms}}};
}

SchedulerLimits limits_of(const Decoder& decoder, std::int32_t n_pages) {
  return {.n_pages = n_pages,
          .page_tokens = decoder.backend().info().page_tokens,
          .max_batch_tokens = decoder.max_batch_tokens(),
          .max_sequences = decoder.max_sequences()};
}

}  // namespace

Engine::Engine(std::unique_ptr<Decoder> decoder, std::shared_ptr<const Tokenizer> tokenizer,
               const EngineOptions& options, std::shared_ptr<EventSink> sink)
    : decoder_(std::move(decoder)),
      tokenizer_(std::move(tokenizer)),
      options_(options),
      vocab_size_(decoder_->config().vocab_size),
      scheduler_(limits_of(*decoder_, options.n_pages)),
      sink_(std::move(sink)) {
  update_stats();
  thread_ = std::thread([this] { thread_main(); });
}

Engine::~Engine() { stop(); }

// ---- from any thread ----

RequestId Engine::submit(AnyRequest request) {
  auto cancel = std::make_shared<CancelFlag>();
  const std::lock_guard lock(mutex_);
  if (stopping_) throw disposed_error();
  const auto waiting = static_cast<std::int64_t>(inbox_.size()) + stats_.waiting;
  const std::int64_t free_slots = std::max(0, scheduler_.limits().max_sequences - stats_.running);
  if (waiting >= free_slots + options_.max_queue) {
    throw Error(ErrorCode::queue_full,
                "the queue is full: " + std::to_string(stats_.running) + " requests are running and " +
                    std::to_string(waiting) + " are waiting; at most " + std::to_string(options_.max_queue) +
                    " may wait (maxQueue)",
                {{"running", stats_.running}, {"waiting", waiting}, {"maxQueue", options_.max_queue}});
  }
  const RequestId id = next_id_++;
  inbox_.push_back({.id = id, .request = std::move(request), .cancel = cancel, .queued = Clock::now()});
  cancels_.emplace(id, std::move(cancel));
  wake_.notify_one();
  return id;
}

void Engine::cancel(RequestId id) noexcept {
  const std::lock_guard lock(mutex_);
  const auto at = cancels_.find(id);
  if (at == cancels_.end()) return;
  at->second->cancel();
  cancel_pending_ = true;
  wake_.notify_one();
}

void Engine::set_paused(RequestId id, bool paused) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (!cancels_.contains(id)) return;
    pauses_.emplace_back(id, paused);
    wake_.notify_one();
  } catch (...) {
    // Out of memory: the request continues unpaused, and the caller's memory holds its output.
  }
}

EngineStats Engine::stats() {
  const std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.waiting += static_cast<std::int32_t>(inbox_.size());
  const Clock::time_point now = Clock::now();
  stats.prompt_tokens_per_second = prompt_rate_.per_second(now);
  stats.generated_tokens_per_second = generated_rate_.per_second(now);
  return stats;
}

void Engine::stop() noexcept {
  const std::lock_guard one_at_a_time(stop_mutex_);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_flag_.cancel();
    for (auto& [id, cancel] : cancels_) cancel->cancel();  // also ends an encoding in progress
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

// ---- on the engine thread ----

void Engine::thread_main() noexcept {
  try {
    while (wait_for_work()) {
      end_due();
      step();
      update_stats();
      deliver();
    }
  } catch (...) {
    // Only the bookkeeping between requests can throw here, for lack of memory: end all requests rather than
    // hang.
  }
  try {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (Submitted& s : inbox_) send(s.id, disposed_error());
      inbox_.clear();
      stats_.running = stats_.waiting = stats_.paused = 0;
    }
    for (const auto& [id, active] : active_) send(id, disposed_error());
    active_.clear();
    deliver();
  } catch (...) {
  }
  decoder_.reset();
}

/// Sleeps until there is work, and admits the submitted requests. False when the engine must stop.
bool Engine::wait_for_work() {
  std::vector<Submitted> arrived;
  std::vector<std::pair<RequestId, bool>> pauses;
  {
    std::unique_lock lock(mutex_);
    const auto has_work = [&] {
      return stopping_ || cancel_pending_ || !inbox_.empty() || !pauses_.empty() || scheduler_.has_work();
    };
    if (next_deadline_)
      wake_.wait_until(lock, *next_deadline_, has_work);
    else
      wake_.wait(lock, has_work);
    if (stopping_) return false;
    arrived.swap(inbox_);
    pauses.swap(pauses_);
    // Keeps the bound of the queue valid until update_stats().
    stats_.waiting += static_cast<std::int32_t>(arrived.size());
  }
  for (Submitted& s : arrived) admit(std::move(s));
  for (const auto& [id, paused] : pauses) scheduler_.set_paused(id, paused);
  return true;
}

std::vector<TokenId> Engine::prompt_ids(const Prompt& prompt, const CancelFlag& cancel) const {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return *ids;
  const PromptText& text = std::get<PromptText>(prompt);
  std::vector<TextPiece> pieces;
  for (const auto& [piece, special] : text.pieces) pieces.push_back({piece, special});
  EncodeOptions encode;
  encode.bos = text.bos;
  return tokenizer_->encode(pieces, encode, &cancel);
}

void Engine::check_ids(std::span<const TokenId> ids, bool generates) const {
  if (ids.empty()) throw Error(ErrorCode::invalid_argument, "the prompt has no tokens");
  for (std::size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < vocab_size_) continue;
    throw Error(ErrorCode::invalid_argument,
                "token id at index " + std::to_string(i) + ": expected less than " +
                    std::to_string(vocab_size_) + ", found " + std::to_string(ids[i]),
                {{"index", i}, {"found", ids[i]}, {"vocabSize", vocab_size_}});
  }
  // A generation needs room for at least one new token.
  const std::size_t max_tokens = static_cast<std::size_t>(options_.context_length) - (generates ? 1 : 0);
  if (ids.size() > max_tokens) {
    throw Error(ErrorCode::prompt_too_long,
                "the prompt has " + std::to_string(ids.size()) + " tokens; a context of " +
                    std::to_string(options_.context_length) + " has room for " + std::to_string(max_tokens),
                {{"promptTokens", ids.size()}, {"contextLength", options_.context_length}});
  }
}

Engine::Active Engine::make_active(Submitted& submitted) {
  Active active;
  active.cancel = submitted.cancel;
  const AdapterSet& adapters =
      std::visit([](auto& r) -> const AdapterSet& { return r.adapters; }, submitted.request);
  active.adapters = normalized(adapters, decoder_->weights().adapters.size());
  if (auto* logits = std::get_if<LogitsRequest>(&submitted.request)) {
    active.ids = std::move(logits->ids);
  } else if (auto* save = std::get_if<SaveStateRequest>(&submitted.request)) {
    active.ids = prompt_ids(save->prompt, *submitted.cancel);
    active.saves_state = true;
  } else {
    auto& request = std::get<GenerateRequest>(submitted.request);
    if (request.timeout_ms > 0) {
      active.timeout_ms = request.timeout_ms;
      active.deadline = submitted.queued + std::chrono::duration_cast<Clock::duration>(
                                               std::chrono::duration<double, std::milli>(request.timeout_ms));
    }
    std::vector<TokenId> prompt = prompt_ids(request.prompt, *submitted.cancel);
    check_ids(prompt, true);
    active.sequence = std::make_unique<Sequence>(submitted.id, std::move(request), std::move(prompt),
                                                 tokenizer_, options_.context_length, submitted.queued);
    return active;
  }
  check_ids(active.ids, false);
  return active;
}

void Engine::admit(Submitted&& submitted) {
  const RequestId id = submitted.id;
  try {
    submitted.cancel->check();
    if (const auto* request = std::get_if<RestoreStateRequest>(&submitted.request)) {
      restore(id, *request);
      return;
    }
    const auto* generate = std::get_if<GenerateRequest>(&submitted.request);
    const std::int32_t priority = generate ? generate->priority : 0;
    Active active = make_active(submitted);
    const std::vector<TokenId> tokens(active.tokens().begin(), active.tokens().end());
    const bool empty = active.sequence && active.sequence->max_tokens() == 0;
    if (active.deadline)
      next_deadline_ = std::min(next_deadline_.value_or(*active.deadline), *active.deadline);
    active.root = adapter_roots_.acquire(active.adapters, scheduler_.pool().tree());
    const PageId root = active_.emplace(id, std::move(active)).first->second.root;
    if (empty)
      finish(id, FinishReason::length);
    else
      scheduler_.add(id, tokens, priority, root);
  } catch (...) {
    const Error error = current_error();
    if (error.code() == ErrorCode::aborted && std::holds_alternative<GenerateRequest>(submitted.request)) {
      counts_.cancelled++;
      send(id, EndEvent{FinishReason::abort, {}, {}});
      retire(id);
    } else {
      fail(id, error);
    }
  }
}

void Engine::restore(RequestId id, const RestoreStateRequest& request) {
  const KvState& state = *request.state;
  const AdapterSet adapters = normalized(request.adapters, decoder_->weights().adapters.size());
  check_ids(state.tokens, false);
  const auto n_tokens = static_cast<std::int32_t>(state.tokens.size());
  const auto wanted = static_cast<std::size_t>(scheduler_.pages_for(n_tokens));
  KvCache& kv = decoder_->kv();
  if (state.pages.size() != wanted * kv.page_bytes()) {
    throw Error(ErrorCode::internal, "expected a saved state of " + std::to_string(wanted * kv.page_bytes()) +
                                         " bytes, found " + std::to_string(state.pages.size()));
  }
  const PageId root = adapter_roots_.acquire(adapters, scheduler_.pool().tree());
  adapter_roots_.release(root);  // the pages keep it
  const std::vector<PageId> pages = scheduler_.adopt(state.tokens, root, [&](std::span<const PageId> to) {
    for (std::size_t i = 0; i < to.size(); i++)
      kv.write_page(to[i], state.pages.data() + i * kv.page_bytes());
  });
  if (pages.empty()) {
    throw Error(ErrorCode::out_of_memory,
                "the saved state needs " + std::to_string(wanted) + " pages of the KV cache; " +
                    std::to_string(scheduler_.pool().available_pages()) +
                    " are available; wait for requests to end or raise kvMemory",
                {{"neededPages", wanted}, {"availablePages", scheduler_.pool().available_pages()}});
  }
  counts_.finished++;
  send(id, StateRestoredEvent{n_tokens});
  retire(id);
}

/// Ends requests that were cancelled or have timed out.
void Engine::end_due() {
  {
    const std::lock_guard lock(mutex_);
    const bool any_cancelled = std::exchange(cancel_pending_, false);
    if (!any_cancelled && !(next_deadline_ && Clock::now() >= *next_deadline_)) return;
  }
  std::vector<RequestId> due;
  next_deadline_.reset();
  for (const auto& [id, active] : active_) {
    if (active.must_end())
      due.push_back(id);
    else if (active.deadline)
      next_deadline_ = std::min(next_deadline_.value_or(*active.deadline), *active.deadline);
  }
  for (const RequestId id : due) {
    Active& active = active_.at(id);
    if (active.cancel->cancelled()) {
      finish(id, FinishReason::abort);
    } else {
      std::vector<Event> out;
      if (active.sequence) active.sequence->finish(FinishReason::abort, out);
      send_all(id, out);
      fail(id, timeout_error(active.timeout_ms));
    }
  }
  if (due.empty()) return;
  // Delivers now: these requests need not wait for the step of the others.
  update_stats();
  deliver();
}

/// Ends a request for an outside reason; a generation keeps its text so far.
void Engine::finish(RequestId id, FinishReason reason) {
  Active& active = active_.at(id);
  if (!active.sequence) {
    fail(id, aborted_error());
    return;
  }
  std::vector<Event> out;
  EndEvent end = active.sequence->finish(reason, out);
  send_all(id, out);
  (reason == FinishReason::abort ? counts_.cancelled : counts_.finished)++;
  send(id, std::move(end));
  retire(id);
}

void Engine::fail(RequestId id, Error error) {
  (error.code() == ErrorCode::aborted ? counts_.cancelled : counts_.failed)++;
  send(id, std::move(error));
  retire(id);
}

void Engine::retire(RequestId id) {
  scheduler_.remove(id);
  if (const auto at = active_.find(id); at != active_.end()) {
    adapter_roots_.release(at->second.root);
    active_.erase(at);
  }
  const std::lock_guard lock(mutex_);
  cancels_.erase(id);
}

void Engine::send_all(RequestId id, std::vector<Event>& events) {
  for (Event& e : events) send(id, std::move(e));
  events.clear();
}

void Engine::deliver() {
  if (deliveries_.empty()) return;
  sink_->deliver(std::exchange(deliveries_, {}));
}

void Engine::update_stats() {
  const PagePool& pool = scheduler_.pool();
  counts_.waiting = static_cast<std::int32_t>(scheduler_.waiting() - scheduler_.waiting_paused());
  counts_.paused = static_cast<std::int32_t>(scheduler_.paused());
  counts_.running = static_cast<std::int32_t>(scheduler_.active() - scheduler_.active_paused());
  counts_.pages = pool.size();
  counts_.pages_used = pool.used_pages();
  counts_.pages_shared = pool.shared_pages();
  counts_.pages_cached = pool.cached_pages();
  counts_.pages_free = pool.free_pages();
  counts_.page_tokens = pool.page_tokens();
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (counts_.generated_tokens > stats_.generated_tokens)
    generated_rate_.add(now, counts_.generated_tokens - stats_.generated_tokens);
  if (counts_.prompt_tokens > stats_.prompt_tokens)
    prompt_rate_.add(now, counts_.prompt_tokens - stats_.prompt_tokens);
  stats_ = counts_;
}

}  // namespace cria
