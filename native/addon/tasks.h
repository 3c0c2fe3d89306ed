// NativeTask of lib/native.ts: work on another thread, with a promise and a cancel().
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "addon/environment.h"
#include "addon/errors.h"

namespace cria {

/// Which of the Executor's threads a task runs on.
enum class TaskLength { short_work, long_work, ordered_work };

/// A NativeTask { promise, cancel() } whose promise is settled elsewhere.
Napi::Object task_object(Napi::Env env, const Napi::Promise& promise, std::function<void()> cancel);

/// Runs `work(const CancelFlag&)` on another thread. Back on this one, calls `settled(environment)` and
/// resolves the promise with `convert(env, result)`. What the functions capture may be destroyed on any
/// thread, so they must not capture references to JavaScript values.
template <class Work, class Convert>
Napi::Object start_task(Napi::Env env, TaskLength length, Work work, Convert convert,
                        std::function<void(Environment&)> settled = {}) {
  using Result = decltype(work(std::declval<const CancelFlag&>()));
  struct State {
    explicit State(Napi::Env e) : deferred(Napi::Promise::Deferred::New(e)) {}
    Napi::Promise::Deferred deferred;
    std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>();
    std::unique_ptr<Result> result;
    std::optional<Error> error;
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
      if (state->error) throw to_js_error(e, *state->error);
      state->deferred.Resolve(guarded(e, [&] { return convert(e, std::move(*state->result)); }));
    } catch (const Napi::Error& error) {
      state->deferred.Reject(error.Value());
    }
  };
  auto run = [state, js, work = std::move(work), finish = std::move(finish)]() mutable {
    try {
      state->result = std::make_unique<Result>(work(*state->cancel));
    } catch (...) {
      state->error = current_error();
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
