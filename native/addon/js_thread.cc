#include "addon/js_thread.h"

#include <utility>

namespace cria {

JsThread::JsThread(Napi::Env env)
    : wake_(Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                          "cria", 0, 1)) {
  wake_.Unref(env);
}

void JsThread::post(Closure closure) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  queue_.push_back(std::move(closure));
  if (std::exchange(woken_, true)) return;
  // Under the lock, so that close() cannot release the function during the call.
  wake_.NonBlockingCall(this, [](Napi::Env env, Napi::Function, JsThread* self) {
    if (env != nullptr) self->run(env);
  });
}

void report_uncaught(Napi::Env env, const Napi::Error& error) noexcept {
  try {
    napi_fatal_exception(env, error.Value());
  } catch (const Napi::Error&) {
    // The environment is being terminated and takes no more reports.
  }
}

void JsThread::run(Napi::Env env) {
  std::vector<Closure> batch;
  {
    const std::lock_guard lock(mutex_);
    woken_ = false;
    batch.swap(queue_);
  }
  for (const Closure& closure : batch) {
    const Napi::HandleScope scope(env);
    try {
      closure(env);
    } catch (const Napi::Error& error) {
      report_uncaught(env, error);
    }
  }
}

void JsThread::hold(Napi::Env env) {
  if (holds_++ == 0) wake_.Ref(env);
}

void JsThread::release(Napi::Env env) {
  if (--holds_ == 0) wake_.Unref(env);
}

void JsThread::close() {
  std::vector<Closure> unrun;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  unrun.swap(queue_);
}

}  // namespace cria
