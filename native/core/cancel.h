// A flag that one thread raises and another polls between units of work.
#pragma once

#include <atomic>

#include "core/error.h"

namespace cria {

class CancelFlag {
 public:
  void cancel() noexcept { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_acquire); }
  /// Throws ERR_ABORTED once cancel() has been called.
  void check() const {
    if (cancelled()) throw Error(ErrorCode::aborted, "the operation was aborted");
  }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace cria
