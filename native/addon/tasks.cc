#include "addon/tasks.h"

namespace cria {

Napi::Object task_object(Napi::Env env, const Napi::Promise& promise, std::function<void()> cancel) {
  Napi::Object task = Napi::Object::New(env);
  task.Set("promise", promise);
  task.Set("cancel",
           Napi::Function::New(env, [cancel = std::move(cancel)](const Napi::CallbackInfo&) { cancel(); }));
  return task;
}

}  // namespace cria
