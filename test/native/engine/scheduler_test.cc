#include "engine/scheduler.h"

#include <doctest/doctest.h>

using namespace cria;

TEST_CASE("a prompt is prefilled in chunks, then decoded token by token") {
  Scheduler scheduler(10, 4, 6);
  scheduler.add(1, 14);
  const std::int32_t counts[] = {6, 6, 2};
  std::int32_t first = 0;
  for (const std::int32_t count : counts) {
    const auto plan = scheduler.plan();
    REQUIRE(plan.chunks.size() == 1);
    CHECK(plan.chunks[0].first == first);
    CHECK(plan.chunks[0].count == count);
    first += count;
    CHECK(plan.chunks[0].reaches_end == (first == 14));
    CHECK(scheduler.find(1)->pages.size() == static_cast<std::size_t>((first + 3) / 4));
    scheduler.commit(plan.chunks[0]);
  }
  scheduler.append_token(1);
  const auto plan = scheduler.plan();
  CHECK(plan.chunks[0].first == 14);
  CHECK(plan.chunks[0].count == 1);
  CHECK(plan.chunks[0].reaches_end);
}

TEST_CASE("a plan that was not committed is planned again with the same pages") {
  Scheduler scheduler(10, 4, 6);
  scheduler.add(1, 5);
  const auto first = scheduler.plan();
  const auto pages = scheduler.find(1)->pages;
  const auto again = scheduler.plan();
  CHECK(again.chunks[0].first == first.chunks[0].first);
  CHECK(scheduler.find(1)->pages == pages);
}

TEST_CASE("first come, first served; a removed sequence gives its pages back") {
  Scheduler scheduler(4, 4, 16);
  scheduler.add(1, 16);
  scheduler.add(2, 3);
  CHECK(scheduler.plan().chunks[0].id == 1);
  CHECK(scheduler.pool().free_pages() == 0);
  scheduler.remove(1);
  scheduler.remove(1);
  scheduler.remove(99);
  CHECK(scheduler.pool().free_pages() == 4);
  CHECK(scheduler.plan().chunks[0].id == 2);
  scheduler.remove(2);
  CHECK(scheduler.plan().chunks.empty());
  CHECK(scheduler.pool().free_pages() == 4);
}

TEST_CASE("without a free page the plan names who cannot go on") {
  Scheduler scheduler(1, 4, 16);
  scheduler.add(7, 5);
  const auto plan = scheduler.plan();
  CHECK(plan.chunks.empty());
  REQUIRE(plan.out_of_pages.has_value());
  CHECK(*plan.out_of_pages == 7);
}
