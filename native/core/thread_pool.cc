#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cria {
namespace {

constexpr int kChunkBits = 20;
constexpr std::uint64_t kChunkMask = (1u << kChunkBits) - 1;
constexpr std::uint64_t kNumberMask = (1u << 24) - 1;
constexpr auto kSpin = std::chrono::microseconds(40);

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until `done()` holds or the time budget is spent; returns whether it holds.
template <class Done>
bool spin_until(Done done) {
  for (int i = 0; i < 64; i++) {
    if (done()) return true;
    pause();
  }
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; i++) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

constexpr std::uint64_t number_of(std::uint64_t ticket) noexcept { return ticket >> (2 * kChunkBits); }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  workers_.reserve(static_cast<std::size_t>(std::max(threads - 1, 0)));
  try {
    for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { worker_main(i); });
  } catch (...) {
    // The system granted fewer threads than requested: run with those.
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_seq_cst);
  wake_.fetch_add(1, std::memory_order_seq_cst);
  wake_.notify_all();
  for (std::thread& w : workers_) w.join();
}

void ThreadPool::run(std::int64_t chunks, std::int64_t n, std::int64_t grain, void* body, Thunk thunk) {
  // The ticket counts chunks in 20 bits; larger loops take larger chunks.
  while (chunks > static_cast<std::int64_t>(kChunkMask)) {
    grain *= 2;
    chunks = (n + grain - 1) / grain;
  }
  loop_ = {.body = body, .thunk = thunk, .n = n, .grain = grain};
  chunks_left_.store(static_cast<std::int32_t>(chunks), std::memory_order_relaxed);
  loop_number_ = (loop_number_ + 1) & kNumberMask;
  ticket_.store(loop_number_ << (2 * kChunkBits) | static_cast<std::uint64_t>(chunks) << kChunkBits,
                std::memory_order_seq_cst);
  wake_sleepers();
  work(loop_number_, 0);
  if (!spin_until([&] { return chunks_left_.load(std::memory_order_acquire) == 0; })) {
    for (std::int32_t left; (left = chunks_left_.load(std::memory_order_acquire)) != 0;)
      chunks_left_.wait(left);
  }
}

/// Runs chunks of one loop until none is left. A claimed chunk keeps its loop alive, so `loop_` is read only
/// after a claim; a late worker finds another loop number in the ticket and claims nothing.
void ThreadPool::work(std::uint64_t loop_number, int thread) {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (number_of(ticket) == loop_number) {
    const std::uint64_t chunk = ticket & kChunkMask;
    if (chunk >= (ticket >> kChunkBits & kChunkMask)) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
      continue;
    const Loop loop = loop_;
    const std::int64_t begin = static_cast<std::int64_t>(chunk) * loop.grain;
    loop.thunk(loop.body, begin, std::min(begin + loop.grain, loop.n), thread);
    if (chunks_left_.fetch_sub(1, std::memory_order_acq_rel) == 1) chunks_left_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::wake_sleepers() {
  wake_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
}

void ThreadPool::worker_main(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    const auto has_news = [&] {
      return number_of(ticket_.load(std::memory_order_acquire)) != seen ||
             stop_.load(std::memory_order_relaxed);
    };
    if (!spin_until(has_news)) {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      for (std::int32_t at = wake_.load(std::memory_order_seq_cst); !has_news();
           at = wake_.load(std::memory_order_seq_cst))
        wake_.wait(at, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (stop_.load(std::memory_order_acquire)) return;
    seen = number_of(ticket_.load(std::memory_order_acquire));
    work(seen, thread);
  }
}

}  // namespace cria
