// The way back to the JS thread: closures posted from any thread run there, in order, in batches.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace cria {

/// A callback of the user threw: that is an uncaught exception of theirs, as from any event handler.
void report_uncaught(Napi::Env env, const Napi::Error& error) noexcept;

class JsThread {
 public:
  using Closure = std::function<void(Napi::Env)>;

  /// JS thread only.
  explicit JsThread(Napi::Env env);

  /// From any thread. Closures posted after close(), or that the environment no longer runs, are destroyed
  /// unrun.
  void post(Closure closure);

  /// JS thread only: while something is held, pending work keeps the process alive.
  void hold(Napi::Env env);
  void release(Napi::Env env);

  /// JS thread only: no closure runs any more.
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
