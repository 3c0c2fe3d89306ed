#include "addon/executor.h"

#include <utility>

namespace cria {

void Executor::run_short(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  if (idle_ < queue_.size() && short_threads_.size() < kShortThreads)
    short_threads_.emplace_back([this] { short_main(); });
  wake_.notify_one();
}

void Executor::short_main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    idle_++;
    wake_.wait(lock, [&] { return closing_ || !queue_.empty(); });
    idle_--;
    if (queue_.empty()) return;  // closing
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

void Executor::run_long(std::function<void()> work) {
  std::list<LongThread> finished;
  {
    const std::lock_guard lock(mutex_);
    reap_locked(finished);
    LongThread& slot = long_threads_.emplace_back();
    try {
      slot.thread = std::thread([this, &slot, work = std::move(work)] {
        work();
        const std::lock_guard done(mutex_);
        slot.finished = true;
      });
    } catch (...) {
      long_threads_.pop_back();
      throw;
    }
  }
  for (LongThread& t : finished) t.thread.join();
}

void Executor::reap_locked(std::list<LongThread>& finished) {
  for (auto it = long_threads_.begin(); it != long_threads_.end();) {
    const auto next = std::next(it);
    if (it->finished) finished.splice(finished.end(), long_threads_, it);
    it = next;
  }
}

void Executor::join() noexcept {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    wake_.notify_all();
  }
  for (std::thread& t : short_threads_) t.join();
  short_threads_.clear();
  // A thread sets `finished` in its own node, so nodes leave the list only after the join.
  for (LongThread& t : long_threads_) t.thread.join();
  long_threads_.clear();
}

}  // namespace cria
