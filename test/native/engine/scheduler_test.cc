#include "engine/scheduler.h"

#include <doctest/doctest.h>

#include <map>
#include <numeric>

using namespace cria;

namespace {

using Tokens = std::vector<std::uint32_t>;

/// n tokens that occur in no other `family`.
Tokens tokens(std::size_t n, std::uint32_t family = 0) {
  Tokens t(n);
  std::iota(t.begin(), t.end(), family * 10'000);
  return t;
}

constexpr PrefillBudget kWhole{1000, 1000};

/// Plans, commits, and samples a token for each chunk that reaches the end.
SchedulerPlan step(Scheduler& scheduler, const PrefillBudget& budget = kWhole) {
  SchedulerPlan plan = scheduler.plan(budget);
  for (const ScheduledChunk& chunk : plan.chunks) {
    scheduler.commit(chunk);
    if (chunk.reaches_end) scheduler.append_token(chunk.id, 77'000 + static_cast<std::uint32_t>(chunk.id));
  }
  return plan;
}

std::vector<SequenceId> ids(const SchedulerPlan& plan) {
  std::vector<SequenceId> result;
  for (const ScheduledChunk& chunk : plan.chunks) result.push_back(chunk.id);
  return result;
}

using Ids = std::vector<SequenceId>;

}  // namespace

TEST_CASE("a prompt is prefilled in chunks, then decoded token by token") {
  Scheduler scheduler({10, 4, 6, 8});
  scheduler.add(1, tokens(14));
  const std::int32_t counts[] = {6, 6, 2};
  std::int32_t first = 0;
  for (const std::int32_t count : counts) {
    const auto plan = step(scheduler);
    REQUIRE(plan.chunks.size() == 1);
    CHECK(plan.chunks[0].first == first);
    CHECK(plan.chunks[0].count == count);
    first += count;
    CHECK(plan.chunks[0].reaches_end == (first == 14));
    CHECK(scheduler.find(1)->pages.size() == static_cast<std::size_t>((first + 3) / 4));
  }
  const auto plan = scheduler.plan(kWhole);
  CHECK(plan.chunks[0].first == 14);
  CHECK(plan.chunks[0].count == 1);
  CHECK(plan.chunks[0].reaches_end);
}

TEST_CASE("a plan that was not committed is planned again with the same pages") {
  Scheduler scheduler({10, 4, 6, 8});
  scheduler.add(1, tokens(5));
  const auto first = scheduler.plan(kWhole);
  const auto pages = scheduler.find(1)->pages;
  const auto again = scheduler.plan(kWhole);
  CHECK(again.chunks[0].first == first.chunks[0].first);
  CHECK(scheduler.find(1)->pages == pages);
}

TEST_CASE("decodes come first, and prompts beside them stay within their budget") {
  Scheduler scheduler({40, 4, 64, 8});
  scheduler.add(1, tokens(3, 1));
  scheduler.add(2, tokens(4, 2));
  step(scheduler);
  scheduler.add(3, tokens(40, 3));
  const auto plan = step(scheduler, {1000, 10});
  CHECK(ids(plan) == Ids{1, 2, 3});
  CHECK(plan.chunks[2].count == 10);
}

TEST_CASE("first come, first served within a priority; a removed sequence releases its pages") {
  Scheduler scheduler({4, 4, 16, 8});
  scheduler.add(1, tokens(16, 1));
  scheduler.add(2, tokens(3, 2));
  CHECK(ids(scheduler.plan(kWhole)) == Ids{1});
  CHECK(scheduler.pool().free_pages() == 0);
  scheduler.remove(1);
  scheduler.remove(1);
  scheduler.remove(99);
  CHECK(scheduler.pool().free_pages() == 4);
  scheduler.add(3, tokens(16, 3), 1);
  CHECK(ids(step(scheduler)) == Ids{3});
  scheduler.remove(3);
  CHECK(ids(step(scheduler)) == Ids{2});
  scheduler.remove(2);
  CHECK(scheduler.plan(kWhole).chunks.empty());
  CHECK(scheduler.pool().used_pages() == 0);
}

TEST_CASE("a short prompt does not wait for a long one") {
  Scheduler scheduler({1000, 4, 64, 8});
  scheduler.add(1, tokens(3000, 1));
  CHECK(step(scheduler, {40, 40}).chunks[0].count == 40);
  scheduler.add(2, tokens(10, 2));
  scheduler.add(3, tokens(10, 3));
  const auto plan = step(scheduler, {40, 40});
  CHECK(ids(plan) == Ids{1, 2});
  CHECK(plan.chunks[0].count == 30);
  CHECK(plan.chunks[1].reaches_end);
  CHECK(ids(step(scheduler, {40, 40})) == Ids{2, 1, 3});
}

TEST_CASE("priority overtakes a bounded number of others") {
  Scheduler scheduler({1000, 4, 4, 1});
  scheduler.add(1, tokens(4, 1));
  for (SequenceId id = 2; id < 200; id++) scheduler.add(id, tokens(4, static_cast<std::uint32_t>(id)), 1);
  int overtaken = 0;
  for (;;) {
    const auto plan = step(scheduler);
    REQUIRE(plan.chunks.size() == 1);
    if (plan.chunks[0].id == 1) break;
    scheduler.remove(plan.chunks[0].id);
    overtaken++;
  }
  CHECK(overtaken <= Scheduler::kHeadStart);
  CHECK(overtaken > 0);
}

TEST_CASE("requests that arrive together compute their common prefix once") {
  Scheduler scheduler({100, 4, 64, 16});
  Tokens prompt = tokens(30);
  for (SequenceId id = 1; id <= 4; id++) {
    Tokens own = prompt;
    own.push_back(static_cast<std::uint32_t>(500 + id));
    own.push_back(600);
    scheduler.add(id, own);
  }
  CHECK(ids(step(scheduler)) == Ids{1});
  const auto second = step(scheduler);
  CHECK(ids(second) == Ids{1, 2, 3, 4});
  for (std::size_t i = 1; i < 4; i++) {
    CHECK(second.chunks[i].first == 30);  // 28 in full pages, 2 in a copied page
    CHECK(second.chunks[i].count == 2);
    CHECK(scheduler.find(second.chunks[i].id)->n_reused == 30);
  }
  CHECK(second.copies.size() == 3);
  CHECK(scheduler.pool().shared_pages() >= 7);
}

TEST_CASE("the last token always runs, since its logits are needed") {
  Scheduler scheduler({20, 4, 64, 4});
  scheduler.add(1, tokens(8));
  step(scheduler);
  scheduler.remove(1);
  scheduler.add(2, tokens(8));
  const auto plan = scheduler.plan(kWhole);
  REQUIRE(plan.chunks.size() == 1);
  CHECK(plan.chunks[0].first == 7);
  CHECK(plan.chunks[0].count == 1);
}

TEST_CASE(
    "without free pages the youngest sequence is preempted, and continues where its pages are still cached") {
  Scheduler scheduler({5, 4, 64, 8});
  scheduler.add(1, tokens(8, 1));
  scheduler.add(2, tokens(7, 2));
  CHECK(ids(step(scheduler)) == Ids{1, 2});
  CHECK(ids(step(scheduler)) == Ids{1, 2});  // the fifth page
  const auto plan = step(scheduler);
  CHECK(plan.preempted == std::vector<SequenceId>{2});
  CHECK(ids(plan) == Ids{1});
  CHECK(scheduler.find(2)->n_preemptions == 1);
  CHECK(scheduler.waiting() == 1);
  scheduler.remove(1);
  const auto again = step(scheduler);
  REQUIRE(ids(again) == Ids{2});
  CHECK(again.chunks[0].first > 0);
  CHECK(again.chunks[0].reaches_end);
  CHECK(scheduler.find(2)->n_reused == 0);  // these were its own pages
}

TEST_CASE("alone and without a free page, the plan names the sequence that cannot continue") {
  Scheduler scheduler({1, 4, 16, 4});
  scheduler.add(7, tokens(5));
  const auto plan = scheduler.plan(kWhole);
  CHECK(plan.chunks.empty());
  REQUIRE(plan.out_of_pages.has_value());
  CHECK(*plan.out_of_pages == 7);
}

TEST_CASE("a paused sequence rests, and gives up its pages when others need them") {
  Scheduler scheduler({4, 4, 64, 8});
  scheduler.add(1, tokens(8, 1));
  step(scheduler);
  scheduler.set_paused(1, true);
  CHECK_FALSE(scheduler.has_work());
  CHECK(scheduler.plan(kWhole).chunks.empty());
  scheduler.add(2, tokens(12, 2));
  const auto plan = step(scheduler);
  CHECK(plan.preempted == std::vector<SequenceId>{1});
  CHECK(ids(plan) == Ids{2});
  scheduler.remove(2);
  CHECK_FALSE(scheduler.has_work());
  scheduler.set_paused(1, false);
  CHECK(ids(step(scheduler)) == Ids{1});
}

TEST_CASE("more sequences than fit in a step run in turn") {
  Scheduler scheduler({40, 4, 64, 2});
  for (SequenceId id = 1; id <= 2; id++) scheduler.add(id, tokens(3, static_cast<std::uint32_t>(id)));
  step(scheduler);
  scheduler.set_paused(1, true);
  scheduler.add(3, tokens(3, 3));
  CHECK(ids(step(scheduler)) == Ids{2, 3});
  scheduler.set_paused(1, false);
  std::map<SequenceId, int> ran;
  for (int i = 0; i < 30; i++)
    for (const SequenceId id : ids(step(scheduler))) ran[id]++;
  for (const auto& [id, n] : ran) CHECK(n >= 15);
}

TEST_CASE("adopted pages serve every sequence with the same prefix") {
  Scheduler scheduler({6, 4, 64, 4});
  const Tokens prompt = tokens(10);
  CHECK(scheduler.adopt(prompt).size() == 3);
  CHECK(scheduler.pool().cached_pages() == 3);
  scheduler.add(1, prompt);
  const auto plan = scheduler.plan(kWhole);
  REQUIRE(plan.chunks.size() == 1);
  CHECK(plan.chunks[0].first == 9);
  CHECK(scheduler.find(1)->n_reused == 9);
  CHECK(scheduler.adopt(tokens(30, 5)).empty());  // more than the pool has
}
