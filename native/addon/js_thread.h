// The queue back to the JS thread: closures posted from any thread run there in order, in batches.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace cria {

/// Reports what a user's callback threw as an uncaught exception, like one from any event handler.
void report_uncaught(Napi::Env env, const Napi::Error& error) noexcept;

class JsThread {
 public:
  using Closure = std::function<void(Napi::Env)>;

  /// JS thread only.
  explicit JsThread(Napi::Env env);

  /// From any thread. A closure posted after close(), or while the environment ends, is destroyed without
  /// being run.
  void post(Closure closure);

  /// JS thread only. The process stays alive while there are more calls of hold() than of release().
  void hold(Napi::Env env);
  void release(Napi::Env env);

  /// JS thread only. No closure runs afterwards.
  void close();

 private:
  void run(Napi::Env env);

  Napi::ThreadSafeFunction wake_;
  int holds_ = 0;

  std::mutex mutex_;
  std::vector<Closure> queue_;
  bool woken_ = false;
  bool closed_ = false;
};

}  // namespace cria
