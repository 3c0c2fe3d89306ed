// What one JavaScript environment (the main thread or a worker) owns of cria: threads, the way back, classes.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>

#include "addon/executor.h"
#include "addon/js_thread.h"
#include "core/cancel.h"
#include "engine/engine.h"

namespace cria {

class KernelRuntime;
class RequestCallbacks;

struct Environment {
  explicit Environment(Napi::Env env) : js(std::make_shared<JsThread>(env)) {}

  std::shared_ptr<JsThread> js;
  Executor executor;
  Napi::FunctionReference model_class, tokenizer_class, tensor_class;
  std::shared_ptr<KernelRuntime> kernels;  // used by the executor's ordered thread alone

  // JS thread only: what has to be stopped when the environment ends.
  std::set<std::shared_ptr<CancelFlag>> tasks;
  std::map<std::shared_ptr<Engine>, std::shared_ptr<RequestCallbacks>> engines;
  /// Callbacks of loads in progress: other threads know them by number, so none of them ever destroys a
  /// reference.
  std::map<std::uint64_t, Napi::FunctionReference> progress;
  std::uint64_t next_progress = 1;
  bool closed = false;

  static const std::shared_ptr<Environment>& of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
  }
  /// Cancels, stops and joins everything. After it no thread of cria touches the environment.
  void shut_down() noexcept;
};

}  // namespace cria
