// Threads of one environment for work that must not run on the JS thread: a small pool for short tasks
// (encoding, decoding), a thread of its own for each long one (loading, freeing a model). All are joined when
// the environment ends.
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

  /// `work` must not throw.
  void run_short(std::function<void()> work);
  void run_long(std::function<void()> work);
  /// Runs what is queued and joins every thread. Afterwards nothing may be run.
  void join() noexcept;

 private:
  struct LongThread {
    std::thread thread;
    bool finished = false;
  };

  void short_main();
  void reap_locked(std::list<LongThread>& finished);

  static constexpr std::size_t kShortThreads = 2;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> short_threads_;
  std::size_t idle_ = 0;
  std::list<LongThread> long_threads_;
  bool closing_ = false;
};

}  // namespace cria
