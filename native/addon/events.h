// Engine events -> JavaScript: one batch a step, handed to each request's handler on the JS thread.
#pragma once

#include <napi.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "addon/js_thread.h"
#include "engine/request.h"

namespace cria {

class RequestCallbacks final : public EventSink, public std::enable_shared_from_this<RequestCallbacks> {
 public:
  using Handler = std::function<void(Napi::Env, std::vector<Event>&&)>;

  explicit RequestCallbacks(std::shared_ptr<JsThread> js) : js_(std::move(js)) {}

  void deliver(std::vector<Delivery>&& deliveries) override;

  // JS thread only. The handler is dropped with the request's last event; until then the process is kept
  // alive, unless holds() says otherwise.
  void add(Napi::Env env, RequestId id, Handler handler);
  /// Whether the request keeps the process alive. Unknown or ended requests are ignored.
  void holds(Napi::Env env, RequestId id, bool held);
  /// Drops every handler: the environment ends.
  void drop() { requests_.clear(); }

 private:
  struct Request {
    Handler handler;
    bool held = true;
  };

  void dispatch(Napi::Env env);

  std::shared_ptr<JsThread> js_;
  std::map<RequestId, Request> requests_;

  std::mutex mutex_;
  std::vector<Delivery> pending_;
};

/// An event as lib/native.ts has it (NativeChunk, NativeStatus, NativeEnd, NativeFailure).
Napi::Object event_to_js(Napi::Env env, const Event& event);

}  // namespace cria
