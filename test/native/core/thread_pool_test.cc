#include "core/thread_pool.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <vector>

using cria::ThreadPool;

TEST_CASE("every index is visited exactly once, for any sizes") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (std::int64_t n : {0, 1, 2, 7, 64, 1000, 12345}) {
      for (std::int64_t grain : {0, 1, 3, 64, 100000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
        pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; i++) visits[static_cast<std::size_t>(i)]++;
        });
        for (const auto& v : visits) REQUIRE(v.load() == 1);
      }
    }
  }
}

TEST_CASE("a loop with more chunks than the ticket can count takes larger chunks") {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum{0};
  const std::int64_t n = 3'000'000;
  pool.parallel_for(n, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  CHECK(sum.load() == n);
}

TEST_CASE("the next loop sees the results of the previous one") {
  ThreadPool pool(4);
  std::vector<int> values(1000, 0);
  for (int round = 1; round <= 2000; round++) {
    pool.parallel_for(1000, 10, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i++) values[static_cast<std::size_t>(i)]++;
    });
    REQUIRE(std::accumulate(values.begin(), values.end(), 0) == 1000 * round);
  }
}

TEST_CASE("loops run after the workers have gone to sleep") {
  ThreadPool pool(3);
  for (int round = 0; round < 20; round++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> count{0};
    pool.parallel_for(9, 1, [&](std::int64_t, std::int64_t) { count++; });
    REQUIRE(count.load() == 9);
  }
}
