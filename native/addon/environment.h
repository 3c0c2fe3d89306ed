// The state of one JavaScript environment (the main thread or a worker): threads, the queue back to
// JavaScript, the classes, and everything that must end with the environment.
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
  std::shared_ptr<KernelRuntime> kernels;  // only the executor's ordered thread uses it

  // JS thread only: what must be stopped when the environment ends.
  std::set<std::shared_ptr<CancelFlag>> tasks;
  std::map<std::shared_ptr<Engine>, std::shared_ptr<RequestCallbacks>> engines;
  /// Callbacks of loads in progress. Other threads refer to them by number, so that no other thread ever
  /// destroys a reference.
  std::map<std::uint64_t, Napi::FunctionReference> progress;
  std::uint64_t next_progress = 1;
  bool closed = false;

  static const std::shared_ptr<Environment>& of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
  }
  /// Cancels, stops and joins everything. Afterwards no thread of cria touches the environment.
  void shut_down() noexcept;
};

}  // namespace cria
