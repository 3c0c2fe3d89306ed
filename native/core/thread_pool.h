// Worker pool for short, frequent parallel loops: a decode step runs about a hundred, a microsecond apart.
//
// Threads claim chunks from one atomic word that also carries the loop's number. A loop therefore ends when
// its chunks are done, not when every worker has checked in: a worker that loses its core to another process
// delays only the chunk it holds. Workers spin for tens of microseconds between loops, then sleep on a futex.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace cria {

class ThreadPool {
 public:
  /// `threads`, at least 1, includes the calling thread: `threads - 1` workers are started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

  /// A grain for [0, n) of at most `max_grain` that gives every thread two ranges where n is large enough.
  std::int64_t grain_for(std::int64_t n, std::int64_t max_grain) const noexcept {
    const std::int64_t even = n / (2 * size());
    return even < 1 ? 1 : even < max_grain ? even : max_grain;
  }

  /// Splits [0, n) into consecutive ranges of at most `grain` indices and calls body(begin, end), or
  /// body(begin, end, thread) with a thread number below size(), for each of them on all threads. Returns
  /// when all are done. `body` must not throw and must not call the pool. One caller at a time.
  template <class Body>
  void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    const std::int64_t chunks = (n + grain - 1) / grain;
    if (chunks == 1 || workers_.empty()) {
      for (std::int64_t i = 0; i < n; i += grain) call(body, i, i + grain < n ? i + grain : n, 0);
      return;
    }
    using B = std::remove_reference_t<Body>;
    run(chunks, n, grain, const_cast<void*>(static_cast<const void*>(&body)),
        [](void* b, std::int64_t begin, std::int64_t end, int thread) {
          call(*static_cast<B*>(b), begin, end, thread);
        });
  }

 private:
  using Thunk = void (*)(void* body, std::int64_t begin, std::int64_t end, int thread);
  template <class Body>
  static void call(Body& body, std::int64_t begin, std::int64_t end, int thread) {
    if constexpr (std::is_invocable_v<Body&, std::int64_t, std::int64_t, int>)
      body(begin, end, thread);
    else
      body(begin, end);
  }
  struct Loop {
    void* body;
    Thunk thunk;
    std::int64_t n, grain;
  };

  void run(std::int64_t chunks, std::int64_t n, std::int64_t grain, void* body, Thunk thunk);
  void work(std::uint64_t loop_number, int thread);
  void worker_main(int thread);
  void wake_sleepers();

  // ticket: loop number (24 bits) | chunks (20 bits) | next chunk (20 bits)
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::int32_t> chunks_left_{0};
  alignas(64) std::atomic<std::int32_t> wake_{0};  // futex word: changes with every published loop
  std::atomic<std::int32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  Loop loop_{};
  std::uint64_t loop_number_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace cria
