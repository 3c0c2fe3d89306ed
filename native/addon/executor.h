// The threads of one environment for work that must not run on the JS thread: a small pool for short tasks
// (encoding, decoding), one thread for kernels, and a new thread for each long task (loading or freeing a
// model). All are joined when the environment ends.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace cria {

class Executor {
 public:
  Executor() = default;
  ~Executor() { join(); }

  // `work` must not throw.
  void run_short(std::function<void()> work);
  void run_long(std::function<void()> work);
  /// Runs work one after the other, in the order of the calls: kernels, which share a worker pool.
  void run_ordered(std::function<void()> work);
  /// Runs what is queued and joins every thread. Nothing may be queued afterwards.
  void join() noexcept;

 private:
  struct LongThread {
    std::thread thread;
    bool finished = false;
  };

  struct Pool {
    std::size_t max_threads;
    std::deque<std::function<void()>> queue{};
    std::vector<std::thread> threads{};
    std::size_t idle = 0;
  };
  void run_pooled(Pool& pool, std::function<void()> work);
  void pool_main(Pool& pool);
  void reap_locked(std::list<LongThread>& finished);

  std::mutex mutex_;
  std::condition_variable wake_;
  Pool short_{.max_threads = 2}, ordered_{.max_threads = 1};
  std::list<LongThread> long_threads_;
  bool closing_ = false;
};

}  // namespace cria
