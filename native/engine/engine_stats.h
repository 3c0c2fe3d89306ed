// The engine's counters and rates, for model.stats() and dashboards.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

namespace cria {

struct EngineStats {
  // Current state.
  std::int32_t running = 0;  // requests that hold pages and are not paused
  std::int32_t waiting = 0;  // requests in the queue
  std::int32_t paused = 0;   // requests whose reader does not read
  std::int32_t pages = 0, pages_used = 0, pages_shared = 0, pages_cached = 0, pages_free = 0;
  std::int32_t page_tokens = 0;
  // During the last second.
  double prompt_tokens_per_second = 0;  // computed ones; tokens found in the cache do not count
  double generated_tokens_per_second = 0;
  // Since the model was loaded.
  std::uint64_t finished = 0, failed = 0, cancelled = 0;  // requests
  std::uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t steps = 0;
  double last_step_ms = 0, longest_step_ms = 0;
};

/// Measures a rate per second over the last second.
class RateMeter {
 public:
  using Clock = std::chrono::steady_clock;

  void add(Clock::time_point now, std::uint64_t count) {
    advance(now);
    slots_[static_cast<std::size_t>(last_slot_) % kSlots] += count;
  }
  double per_second(Clock::time_point now) {
    advance(now);
    std::uint64_t sum = 0;
    for (const std::uint64_t slot : slots_) sum += slot;
    return static_cast<double>(sum);
  }

 private:
  static constexpr std::int64_t kSlots = 20;
  static constexpr std::chrono::milliseconds kSlotTime{1000 / kSlots};

  void advance(Clock::time_point now) {
    const std::int64_t slot = now.time_since_epoch() / kSlotTime;
    for (std::int64_t s = std::max(last_slot_ + 1, slot - kSlots + 1); s <= slot; s++)
      slots_[static_cast<std::size_t>(s % kSlots)] = 0;
    last_slot_ = std::max(last_slot_, slot);
  }

  std::array<std::uint64_t, kSlots> slots_{};
  std::int64_t last_slot_ = 0;
};

}  // namespace cria
