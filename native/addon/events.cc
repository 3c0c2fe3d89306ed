#include "addon/events.h"

#include <iterator>
#include <utility>

#include "addon/convert.h"
#include "addon/errors.h"

namespace cria {
namespace {

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::stop_string: return "stopString";
    case FinishReason::length: return "length";
    case FinishReason::context: return "context";
    case FinishReason::abort: return "abort";
  }
  return "stop";
}

Napi::Object logprob_to_js(Napi::Env env, std::uint32_t id, float logprob) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("token", Napi::Number::New(env, id));
  o.Set("logprob", Napi::Number::New(env, static_cast<double>(logprob)));
  return o;
}

Napi::Object chunk_to_js(Napi::Env env, const ChunkEvent& chunk) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("type", "chunk");
  o.Set("text", Napi::String::New(env, chunk.text));
  o.Set("tokens", ids_to_js(env, chunk.tokens));
  if (chunk.logprobs.empty()) {
    o.Set("logprobs", env.Null());
    return o;
  }
  Napi::Array all = Napi::Array::New(env, chunk.logprobs.size());
  for (std::uint32_t i = 0; i < chunk.logprobs.size(); i++) {
    const SampledToken& token = chunk.logprobs[i];
    Napi::Object entry = logprob_to_js(env, token.id, token.logprob);
    Napi::Array top = Napi::Array::New(env, token.top.size());
    for (std::uint32_t j = 0; j < token.top.size(); j++)
      top.Set(j, logprob_to_js(env, token.top[j].id, token.top[j].logprob));
    entry.Set("top", top);
    all.Set(i, entry);
  }
  o.Set("logprobs", all);
  return o;
}

Napi::Object end_to_js(Napi::Env env, const EndEvent& end) {
  Napi::Object usage = Napi::Object::New(env);
  usage.Set("promptTokens", end.usage.prompt_tokens);
  usage.Set("cachedTokens", end.usage.cached_tokens);
  usage.Set("generatedTokens", end.usage.generated_tokens);
  usage.Set("droppedTokens", end.usage.dropped_tokens);
  usage.Set("preemptions", end.usage.preemptions);
  usage.Set("queueMs", end.usage.queue_ms);
  usage.Set("prefillMs", end.usage.prefill_ms);
  usage.Set("decodeMs", end.usage.decode_ms);
  Napi::Object o = Napi::Object::New(env);
  o.Set("type", "end");
  o.Set("finishReason", name_of(end.reason));
  if (end.reason == FinishReason::stop_string) o.Set("stopString", Napi::String::New(env, end.stop_string));
  o.Set("usage", usage);
  return o;
}

}  // namespace

void RequestCallbacks::deliver(std::vector<Delivery>&& deliveries) {
  const std::lock_guard lock(mutex_);
  const bool posted = !pending_.empty();
  pending_.insert(pending_.end(), std::make_move_iterator(deliveries.begin()),
                  std::make_move_iterator(deliveries.end()));
  if (!posted) js_->post([self = shared_from_this()](Napi::Env env) { self->dispatch(env); });
}

void RequestCallbacks::add(Napi::Env env, RequestId id, Handler handler) {
  requests_.emplace(id, Request{std::move(handler)});
  js_->hold(env);
}

void RequestCallbacks::set_held(Napi::Env env, RequestId id, bool held) {
  const auto at = requests_.find(id);
  if (at == requests_.end() || at->second.held == held) return;
  at->second.held = held;
  if (held)
    js_->hold(env);
  else
    js_->release(env);
}

void RequestCallbacks::dispatch(Napi::Env env) {
  std::vector<Delivery> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(pending_);
  }
  // One call per request, with its events in order.
  std::map<RequestId, std::vector<Event>> by_request;
  for (Delivery& d : batch) by_request[d.request].push_back(std::move(d.event));
  for (auto& [id, events] : by_request) {
    const auto at = requests_.find(id);
    if (at == requests_.end()) continue;
    Handler handler = at->second.handler;
    if (is_last(events.back())) {
      const bool held = at->second.held;
      requests_.erase(at);
      if (held) js_->release(env);
    }
    const Napi::HandleScope scope(env);
    try {
      handler(env, std::move(events));
    } catch (const Napi::Error& error) {
      report_uncaught(env, error);
    }
  }
}

Napi::Object event_to_js(Napi::Env env, const Event& event) {
  if (const auto* chunk = std::get_if<ChunkEvent>(&event)) return chunk_to_js(env, *chunk);
  if (const auto* end = std::get_if<EndEvent>(&event)) return end_to_js(env, *end);
  Napi::Object o = Napi::Object::New(env);
  if (const auto* status = std::get_if<StatusEvent>(&event)) {
    o.Set("type", "status");
    o.Set("status", status->status == StatusEvent::Status::started ? "started" : "preempted");
    return o;
  }
  o.Set("type", "error");
  if (const auto* error = std::get_if<Error>(&event)) {
    o.Set("code", std::string(error_code_name(error->code())));
    o.Set("message", error->what());
    o.Set("details", details_to_js(env, *error));
  }
  return o;
}

}  // namespace cria
