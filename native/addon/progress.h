// Progress of a task, reported to a JavaScript function.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>

#include "addon/environment.h"

namespace cria {

/// A callback (done, total) of a task. On the JS thread: construct it before the task, release it after.
class Progress {
 public:
  /// `function`: a function, or null for none.
  Progress(Napi::Env env, const Napi::Value& function);

  /// From the task's threads, one at a time: calls the function at most every 50 ms, and always with the
  /// final count. Empty without a function.
  std::function<void(std::uint64_t done, std::uint64_t total)> report;

  void release(Environment& environment) const { environment.progress.erase(callback_); }

 private:
  std::uint64_t callback_ = 0;
};

}  // namespace cria
