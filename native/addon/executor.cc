#include "addon/executor.h"

#include <utility>

namespace cria {

void Executor::run_short(std::function<void()> work) { run_pooled(short_, std::move(work)); }

void Executor::run_ordered(std::function<void()> work) { run_pooled(ordered_, std::move(work)); }

void Executor::run_pooled(Pool& pool, std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  pool.queue.push_back(std::move(work));
  if (pool.idle < pool.queue.size() && pool.threads.size() < pool.max_threads)
    pool.threads.emplace_back([this, &pool] { pool_main(pool); });
  wake_.notify_all();
}

void Executor::pool_main(Pool& pool) {
  std::unique_lock lock(mutex_);
  for (;;) {
    pool.idle++;
    wake_.wait(lock, [&] { return closing_ || !pool.queue.empty(); });
    pool.idle--;
    if (pool.queue.empty()) return;  // closing
    std::function<void()> work = std::move(pool.queue.front());
    pool.queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // destroys what it captured before taking the lock
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
  for (Pool* pool : {&short_, &ordered_}) {
    for (std::thread& t : pool->threads) t.join();
    pool->threads.clear();
  }
  // A thread sets `finished` in its own node, so nodes leave the list only after the join.
  for (LongThread& t : long_threads_) t.thread.join();
  long_threads_.clear();
}

}  // namespace cria
