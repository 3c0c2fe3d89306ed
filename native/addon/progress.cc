#include "addon/progress.h"

#include <chrono>
#include <memory>
#include <utility>

#include "addon/convert.h"

namespace cria {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(50);

void call(Napi::Env env, std::uint64_t callback, std::uint64_t done, std::uint64_t total) {
  const auto& callbacks = Environment::of(env)->progress;
  const auto at = callbacks.find(callback);
  if (at == callbacks.end()) return;
  at->second.Call({Napi::Number::New(env, static_cast<double>(done)),
                   Napi::Number::New(env, static_cast<double>(total))});
}

}  // namespace

Progress::Progress(Napi::Env env, const Napi::Value& function) {
  if (function.IsNull() || function.IsUndefined()) return;
  using Clock = std::chrono::steady_clock;
  const std::shared_ptr<Environment>& environment = Environment::of(env);
  callback_ = environment->next_progress++;
  environment->progress.emplace(callback_, Napi::Persistent(as_function(function, "onProgress")));
  report = [js = environment->js, callback = callback_, last = Clock::time_point()](
               std::uint64_t done, std::uint64_t total) mutable {
    const Clock::time_point now = Clock::now();
    if (done < total && now - last < kInterval) return;
    last = now;
    js->post([callback, done, total](Napi::Env e) { call(e, callback, done, total); });
  };
}

}  // namespace cria
