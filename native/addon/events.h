// Engine events -> JavaScript: one batch per step, dispatched to the requests' handlers on the JS thread.
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

  // JS thread only.

  /// Registers the handler of a request until the request's last event. Until then the request keeps the
  /// process alive, unless set_held() says otherwise.
  void add(Napi::Env env, RequestId id, Handler handler);
  /// Whether the request keeps the process alive. Unknown and ended requests are ignored.
  void set_held(Napi::Env env, RequestId id, bool held);
  /// Drops every handler when the environment ends.
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

/// The event of lib/native.ts: NativeChunk, NativeStatus, NativeEnd or NativeFailure.
Napi::Object event_to_js(Napi::Env env, const Event& event);

}  // namespace cria
