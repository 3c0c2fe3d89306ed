#include "engine/engine.h"

#include <new>
#include <string>
#include <utility>

namespace cria {
namespace {

Error disposed_error() { return {ErrorCode::disposed, "the model was disposed"}; }
Error aborted_error() { return {ErrorCode::aborted, "the request was aborted"}; }

/// The exception being handled, as the one type that callers see.
Error current_error() noexcept {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return {ErrorCode::out_of_memory, "there is not enough memory to go on with this request"};
  } catch (const std::exception& e) {
    return {ErrorCode::internal, e.what()};
  } catch (...) {
    return {ErrorCode::internal, "an unknown exception in the engine"};
  }
}

}  // namespace

Engine::Engine(std::unique_ptr<Decoder> decoder, std::shared_ptr<const Tokenizer> tokenizer,
               std::int32_t context_length, std::int32_t n_pages, std::shared_ptr<EventSink> sink)
    : decoder_(std::move(decoder)),
      tokenizer_(std::move(tokenizer)),
      context_length_(context_length),
      vocab_size_(decoder_->config().vocab_size),
      scheduler_(n_pages, decoder_->backend().info().page_tokens, decoder_->max_batch_tokens()),
      sink_(std::move(sink)),
      thread_([this] { thread_main(); }) {}

Engine::~Engine() { stop(); }

// ---- from any thread ----

RequestId Engine::submit(GenerateRequest request) { return enqueue(std::move(request)); }
RequestId Engine::submit(LogitsRequest request) { return enqueue(std::move(request)); }

RequestId Engine::enqueue(AnyRequest request) {
  auto cancel = std::make_shared<CancelFlag>();
  const std::lock_guard lock(mutex_);
  if (stopping_) throw disposed_error();
  const RequestId id = next_id_++;
  inbox_.push_back({id, std::move(request), cancel, Clock::now()});
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

void Engine::stop() noexcept {
  const std::lock_guard one_at_a_time(stop_mutex_);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_flag_.cancel();
    for (auto& [id, cancel] : cancels_) cancel->cancel();  // ends an encoding in progress too
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

// ---- on the engine thread ----

void Engine::thread_main() noexcept {
  try {
    std::vector<Submitted> arrived;
    while (wait_for_work(arrived)) {
      for (Submitted& s : arrived) admit(std::move(s));
      arrived.clear();
      drop_cancelled();
      step();
      deliver();
    }
    for (Submitted& s : arrived) send(s.id, disposed_error());
  } catch (...) {
    // Only the bookkeeping between requests can throw here (out of memory): end everything rather than hang.
  }
  try {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (Submitted& s : inbox_) send(s.id, disposed_error());
      inbox_.clear();
    }
    for (const auto& [id, active] : active_) send(id, disposed_error());
    active_.clear();
    deliver();
  } catch (...) {
  }
  decoder_.reset();
}

/// Sleeps until there is something to do; false when the engine is to stop.
bool Engine::wait_for_work(std::vector<Submitted>& arrived) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return stopping_ || cancel_pending_ || !inbox_.empty() || scheduler_.size() > 0; });
  arrived = std::exchange(inbox_, {});
  return !stopping_;
}

void Engine::check_ids(std::span<const TokenId> ids) const {
  if (ids.empty()) throw Error(ErrorCode::invalid_argument, "the prompt has no tokens");
  for (std::size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < vocab_size_) continue;
    throw Error(ErrorCode::invalid_argument,
                "token id at index " + std::to_string(i) + ": expected less than " +
                    std::to_string(vocab_size_) + ", found " + std::to_string(ids[i]),
                {{"index", static_cast<double>(i)},
                 {"found", static_cast<double>(ids[i])},
                 {"vocabSize", static_cast<double>(vocab_size_)}});
  }
}

std::vector<TokenId> Engine::prompt_ids(const GenerateRequest& request, const CancelFlag& cancel) const {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&request.prompt)) return *ids;
  const PromptText& text = std::get<PromptText>(request.prompt);
  std::vector<TextPiece> pieces;
  for (const auto& [piece, special] : text.pieces) pieces.push_back({piece, special});
  EncodeOptions options;
  options.bos = text.bos;
  return tokenizer_->encode(pieces, options, &cancel);
}

void Engine::admit(Submitted&& submitted) {
  const RequestId id = submitted.id;
  try {
    submitted.cancel->check();
    Active active;
    active.cancel = submitted.cancel;
    if (auto* logits = std::get_if<LogitsRequest>(&submitted.request)) {
      active.ids = std::move(logits->ids);
    } else {
      auto& request = std::get<GenerateRequest>(submitted.request);
      std::vector<TokenId> prompt = prompt_ids(request, *submitted.cancel);
      active.sequence = std::make_unique<Sequence>(id, std::move(request), std::move(prompt), tokenizer_,
                                                   context_length_, submitted.queued);
    }
    const std::span<const TokenId> tokens = active.tokens();
    check_ids(tokens);
    // A generation needs room for one token more.
    const std::size_t most = static_cast<std::size_t>(context_length_) - (active.sequence ? 1 : 0);
    if (tokens.size() > most) {
      throw Error(ErrorCode::prompt_too_long,
                  "the prompt has " + std::to_string(tokens.size()) + " tokens; a context of " +
                      std::to_string(context_length_) + " has room for " + std::to_string(most),
                  {{"promptTokens", static_cast<double>(tokens.size())},
                   {"contextLength", static_cast<double>(context_length_)}});
    }
    if (active.sequence && active.sequence->max_tokens() == 0) {
      std::vector<Event> out;
      send(id, active.sequence->finish(FinishReason::length, out));
      retire(id);
      return;
    }
    scheduler_.add(id, static_cast<std::int32_t>(tokens.size()));
    active_.emplace(id, std::move(active));
  } catch (...) {
    const Error error = current_error();
    if (error.code() == ErrorCode::aborted && std::holds_alternative<GenerateRequest>(submitted.request)) {
      send(id, EndEvent{FinishReason::abort, {}, {}});
      retire(id);
    } else {
      fail(id, error);
    }
  }
}

void Engine::drop_cancelled() {
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(cancel_pending_, false)) return;
  }
  std::vector<RequestId> cancelled;
  for (const auto& [id, active] : active_)
    if (active.cancel->cancelled()) cancelled.push_back(id);
  for (const RequestId id : cancelled) {
    Active& active = active_.at(id);
    if (!active.sequence) {
      fail(id, aborted_error());
      continue;
    }
    std::vector<Event> out;
    EndEvent end = active.sequence->finish(FinishReason::abort, out);
    for (Event& e : out) send(id, std::move(e));
    send(id, std::move(end));
    retire(id);
  }
}

void Engine::step() {
  Scheduler::Plan plan = scheduler_.plan();
  if (plan.out_of_pages) {
    const RequestId id = *plan.out_of_pages;
    Active& active = active_.at(id);
    if (active.sequence) {
      std::vector<Event> out;
      EndEvent end = active.sequence->finish(FinishReason::context, out);
      for (Event& e : out) send(id, std::move(e));
      send(id, std::move(end));
      retire(id);
    } else {
      fail(id, Error(ErrorCode::out_of_memory, "the KV cache has no free page",
                     {{"pages", static_cast<double>(scheduler_.pool().size())}}));
    }
  }
  for (const ScheduledChunk& chunk : plan.chunks) {
    try {
      run_chunk(chunk, active_.at(chunk.id));
    } catch (...) {
      fail(chunk.id, current_error());
    }
  }
}

void Engine::run_chunk(const ScheduledChunk& chunk, Active& active) {
  Sequence* sequence = active.sequence.get();
  if (!std::exchange(active.started, true) && sequence) sequence->started();
  const DecoderInput input{
      active.tokens().subspan(static_cast<std::size_t>(chunk.first), static_cast<std::size_t>(chunk.count)),
      chunk.first, scheduler_.find(chunk.id)->pages, chunk.reaches_end};
  const bool done =
      decoder_->forward({&input, 1}, [&] { return active.cancel->cancelled() || stop_flag_.cancelled(); });
  if (!done) return;  // the next step drops the request, or the engine stops
  scheduler_.commit(chunk);
  if (!chunk.reaches_end) return;
  if (!sequence) {
    const std::span<const float> logits = decoder_->logits(0);
    send(chunk.id, LogitsEvent{{logits.begin(), logits.end()}});
    retire(chunk.id);
    return;
  }
  if (chunk.first + chunk.count == sequence->usage().prompt_tokens) sequence->prefilled();
  SampledToken token;
  if (sequence->is_plain_greedy())
    token.id = decoder_->greedy_token(0);
  else
    token = sequence->sample(decoder_->logits(0));
  std::vector<Event> out;
  std::optional<EndEvent> end = sequence->accept(std::move(token), out);
  for (Event& e : out) send(chunk.id, std::move(e));
  if (end) {
    send(chunk.id, std::move(*end));
    retire(chunk.id);
  } else {
    scheduler_.append_token(chunk.id);
  }
}

void Engine::fail(RequestId id, Error error) {
  send(id, std::move(error));
  retire(id);
}

void Engine::retire(RequestId id) {
  scheduler_.remove(id);
  active_.erase(id);
  const std::lock_guard lock(mutex_);
  cancels_.erase(id);
}

void Engine::deliver() {
  if (deliveries_.empty()) return;
  sink_->deliver(std::exchange(deliveries_, {}));
}

}  // namespace cria
