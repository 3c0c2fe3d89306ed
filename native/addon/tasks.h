// NativeTask of lib/native.ts: work on another thread behind a promise and a cancel().
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "addon/environment.h"
#include "addon/errors.h"

namespace cria {

enum class TaskLength { short_work, long_work, ordered_work };

/// { promise, cancel() } of a promise that is settled elsewhere.
Napi::Object task_object(Napi::Env env, const Napi::Promise& promise, std::function<void()> cancel);

/// Runs `work(const CancelFlag&)` on another thread and resolves with `convert(env, result)` on this one,
/// after `settled(environment)`. What they capture may be destroyed on any thread: no references to
/// JavaScript values.
template <class Work, class Convert>
Napi::Object start_task(Napi::Env env, TaskLength length, Work work, Convert convert,
                        std::function<void(Environment&)> settled = {}) {
  using Result = decltype(work(std::declval<const CancelFlag&>()));
  struct State {
    explicit State(Napi::Env e) : deferred(Napi::Promise::Deferred::New(e)) {}
    Napi::Promise::Deferred deferred;
    std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>();
    std::unique_ptr<Result> result;
    std::exception_ptr error;
  };
  Environment& environment = *Environment::of(env);
  auto state = std::make_shared<State>(env);
  const std::shared_ptr<JsThread> js = environment.js;

  auto finish = [state, convert = std::move(convert), settled = std::move(settled)](Napi::Env e) mutable {
    Environment& at = *Environment::of(e);
    at.tasks.erase(state->cancel);
    at.js->release(e);
    if (settled) settled(at);
    try {
      if (state->error) throw to_js_error(e, to_cria_error(state->error));
      state->deferred.Resolve(guarded(e, [&] { return convert(e, std::move(*state->result)); }));
    } catch (const Napi::Error& error) {
      state->deferred.Reject(error.Value());
    }
  };
  auto run = [state, js, work = std::move(work), finish = std::move(finish)]() mutable {
    try {
      state->result = std::make_unique<Result>(work(*state->cancel));
    } catch (...) {
      state->error = std::current_exception();
    }
    js->post(std::move(finish));
  };
  if (length == TaskLength::long_work)
    environment.executor.run_long(std::move(run));
  else if (length == TaskLength::ordered_work)
    environment.executor.run_ordered(std::move(run));
  else
    environment.executor.run_short(std::move(run));
  environment.tasks.insert(state->cancel);
  environment.js->hold(env);
  return task_object(env, state->deferred.Promise(), [cancel = state->cancel] { cancel->cancel(); });
}

}  // namespace cria
