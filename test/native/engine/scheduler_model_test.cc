// Random operations on scheduler and pool against a model of the cache. Every slot of every page records the
// root and the whole prefix whose K and V it would hold, so that a page shared, copied, evicted or reused
// wrongly is detected.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "engine/scheduler.h"

using namespace cria;

namespace {

constexpr std::uint64_t kNothing = 0;

std::uint64_t next_prefix(std::uint64_t prefix, std::uint32_t token) {
  std::uint64_t x = (prefix + 1) * 0x9e3779b97f4a7c15 ^ (token + 1);
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9;
  return (x ^ (x >> 29)) | 1;
}

/// Where the prefix of a sequence of this root begins.
std::uint64_t beginning(PageId root) { return next_prefix(kNothing, static_cast<std::uint32_t>(root)); }

class Model {
 public:
  Model(std::uint32_t seed, SchedulerLimits limits)
      : random_(seed), limits_(limits), scheduler_(limits), slots_(static_cast<std::size_t>(limits.n_pages)) {
    for (auto& page : slots_) page.assign(static_cast<std::size_t>(limits.page_tokens), kNothing);
  }

  void operate() {
    const std::uint32_t choice = below(100);
    if (choice < 16) {
      add();
    } else if (choice < 20) {
      if (const SequenceId id = any()) remove(id);
    } else if (choice < 26) {
      if (const SequenceId id = any()) pause(id, below(2) == 0);
    } else if (choice < 28) {
      if (const SequenceId id = any()) replace(id);
    } else if (choice < 29) {
      adopt();
    } else {
      step(below(10) != 0);
    }
    check();
  }

  // Paused sequences resume, and all must end.
  void drain() {
    for (const auto& [id, s] : std::map(live_)) pause(id, false);
    draining_ = true;
    for (int steps = 0; !live_.empty(); steps++) {
      REQUIRE(steps < 200'000);
      step(true);
      check();
    }
    CHECK(scheduler_.pool().used_pages() - static_cast<std::int32_t>(pinned()) == 0);
  }

  std::uint64_t reused = 0, preempted = 0, copies = 0, ended = 0;

 private:
  struct Live {
    std::int32_t remaining = 0;  // tokens still to sample
    std::uint64_t idle_plans = 0;
    std::int32_t n_cached = 0;
  };

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }
  SequenceId any() {
    if (live_.empty()) return 0;
    auto at = live_.begin();
    std::advance(at, below(static_cast<std::uint32_t>(live_.size())));
    return at->first;
  }
  std::int32_t most_tokens() const { return limits_.n_pages * limits_.page_tokens; }

  // Few different tokens and common prefixes, so that sequences share pages.
  std::vector<std::uint32_t> prompt() {
    std::vector<std::uint32_t> tokens;
    const std::uint32_t family = below(3), n = 1 + below(static_cast<std::uint32_t>(most_tokens() * 2 / 3));
    for (std::uint32_t i = 0; i < n; i++) tokens.push_back(below(24) == 0 ? below(2) : (i * 7 + family) % 5);
    return tokens;
  }

  PageId root() { return PrefixTree::root(static_cast<std::int32_t>(below(8)) / 6); }

  void add() {
    if (live_.size() >= 12) return;
    const auto tokens = prompt();
    const SequenceId id = ++last_id_;
    scheduler_.add(id, tokens, static_cast<std::int32_t>(below(8)) == 0 ? 1 : 0, root());
    live_[id].remaining =
        1 + static_cast<std::int32_t>(below(static_cast<std::uint32_t>(most_tokens() - tokens.size() + 1)));
  }
  void remove(SequenceId id) {
    scheduler_.remove(id);
    live_.erase(id);
  }
  void pause(SequenceId id, bool paused) {
    scheduler_.set_paused(id, paused);
    live_.at(id).idle_plans = 0;
  }
  void replace(SequenceId id) {
    const auto tokens = prompt();
    scheduler_.replace_tokens(id, tokens);
    live_.at(id).remaining =
        std::min(live_.at(id).remaining, most_tokens() - static_cast<std::int32_t>(tokens.size()) + 1);
  }
  void adopt() {
    const auto tokens = prompt();
    const PageId root = this->root();
    const auto pages = scheduler_.adopt(tokens, root);
    if (pages.empty()) return;
    std::uint64_t prefix = beginning(root);
    for (std::size_t i = 0; i < tokens.size(); i++) {
      prefix = next_prefix(prefix, tokens[i]);
      slot(pages, i) = prefix;
    }
  }

  std::uint64_t& slot(const std::vector<PageId>& pages, std::size_t position) {
    const auto n = static_cast<std::size_t>(limits_.page_tokens);
    return slots_.at(static_cast<std::size_t>(pages.at(position / n))).at(position % n);
  }

  void step(bool committed) {
    const bool had_work = scheduler_.has_work();
    const std::int32_t alone =
        1 + static_cast<std::int32_t>(below(static_cast<std::uint32_t>(limits_.max_batch_tokens)));
    const SchedulerPlan plan = scheduler_.plan({alone, 1 + static_cast<std::int32_t>(below(4))});
    preempted += plan.preempted.size();
    copies += plan.copies.size();
    for (const PageCopy& c : plan.copies)
      slots_.at(static_cast<std::size_t>(c.to)) = slots_.at(static_cast<std::size_t>(c.from));
    if (plan.out_of_pages) {
      remove(*plan.out_of_pages);
      CHECK(plan.chunks.empty());
      return;
    }
    empty_plans_ = had_work && plan.chunks.empty() ? empty_plans_ + 1 : 0;
    REQUIRE(empty_plans_ < 3);

    std::int32_t n_tokens = 0;
    std::map<SequenceId, int> seen;
    for (const ScheduledChunk& chunk : plan.chunks) {
      n_tokens += chunk.count;
      CHECK(++seen[chunk.id] == 1);
      const ScheduledSequence& s = *scheduler_.find(chunk.id);
      REQUIRE(!s.is_paused);
      REQUIRE(chunk.first == s.n_cached);
      REQUIRE(chunk.count >= 1);
      REQUIRE(chunk.reaches_end == (chunk.first + chunk.count == s.n_tokens()));
      std::uint64_t prefix = beginning(s.root);
      for (std::int32_t i = 0; i < chunk.first + chunk.count; i++) {
        prefix = next_prefix(prefix, s.tokens[static_cast<std::size_t>(i)]);
        std::uint64_t& held = slot(s.pages, static_cast<std::size_t>(i));
        if (i < chunk.first)
          REQUIRE(held == prefix);
        else
          held = prefix;  // even without commit: an aborted pass leaves half-written pages
      }
      live_.at(chunk.id).idle_plans = 0;
    }
    REQUIRE(n_tokens <= limits_.max_batch_tokens);
    REQUIRE(plan.chunks.size() <= static_cast<std::size_t>(limits_.max_sequences));
    if (!committed) return;
    check_progress();

    for (const ScheduledChunk& chunk : plan.chunks) {
      scheduler_.commit(chunk);
      if (!chunk.reaches_end) continue;
      Live& live = live_.at(chunk.id);
      if (--live.remaining <= 0 || below(30) == 0) {
        reused += static_cast<std::uint64_t>(scheduler_.find(chunk.id)->n_reused);
        ended++;
        remove(chunk.id);
      } else {
        scheduler_.append_token(chunk.id, below(5));
      }
    }
  }

  // The unpaused sequence of the lowest rank only ever waits for tokens that another one computes for it.
  void check_progress() {
    const ScheduledSequence* first = nullptr;
    for (auto& [id, live] : live_) {
      const ScheduledSequence& s = *scheduler_.find(id);
      if (s.is_paused) continue;
      if (!first || std::pair(s.rank, s.id) < std::pair(first->rank, first->id)) first = &s;
    }
    if (!first) return;
    Live& live = live_.at(first->id);
    if (std::exchange(live.n_cached, first->n_cached) != first->n_cached) live.idle_plans = 0;
    REQUIRE(live.idle_plans++ < 8);
  }

  std::size_t pinned() const {
    std::map<PageId, int> distinct;
    for (const PageId page : scheduler_.copied_from()) distinct[page]++;
    std::size_t n = 0;
    for (const auto& [page, count] : distinct) n += scheduler_.pool().references(page) == count;
    return n;
  }

  void check() {
    const PagePool& pool = scheduler_.pool();
    references_.assign(slots_.size(), 0);
    std::size_t waiting = 0, paused = 0, active_paused = 0;
    for (const auto& [id, live] : live_) {
      const ScheduledSequence* s = scheduler_.find(id);
      REQUIRE(s != nullptr);
      for (const PageId page : s->pages) references_.at(static_cast<std::size_t>(page))++;
      REQUIRE((s->is_active || s->pages.empty()));
      REQUIRE(s->n_cached < s->n_tokens() + 1);
      REQUIRE(static_cast<std::size_t>(scheduler_.pages_for(s->n_cached)) <= s->pages.size());
      waiting += !s->is_active;
      paused += s->is_paused;
      active_paused += s->is_active && s->is_paused;
    }
    for (const PageId page : scheduler_.copied_from()) references_.at(static_cast<std::size_t>(page))++;
    std::int32_t used = 0, cached = 0, shared = 0;
    for (PageId page = 0; page < pool.size(); page++) {
      const std::int32_t n = references_[static_cast<std::size_t>(page)];
      REQUIRE(pool.references(page) == n);
      used += n > 0;
      shared += n > 1;
      cached += n == 0 && pool.tree().contains(page);
    }
    REQUIRE(pool.used_pages() == used);
    REQUIRE(pool.cached_pages() == cached);
    REQUIRE(pool.shared_pages() == shared);
    REQUIRE(pool.free_pages() + cached + used == pool.size());
    REQUIRE(scheduler_.size() == live_.size());
    REQUIRE(scheduler_.waiting() == waiting);
    REQUIRE(scheduler_.paused() == paused);
    REQUIRE(scheduler_.active_paused() == active_paused);
    REQUIRE(scheduler_.active() + waiting == live_.size());
  }

  std::mt19937 random_;
  SchedulerLimits limits_;
  Scheduler scheduler_;
  std::vector<std::vector<std::uint64_t>> slots_;  // [n_pages][page_tokens]
  std::map<SequenceId, Live> live_;
  std::vector<std::int32_t> references_;
  SequenceId last_id_ = 0;
  int empty_plans_ = 0;
  bool draining_ = false;
};

// CRIA_MODEL_OPERATIONS: fewer for slow builds, more for a thorough run.
std::uint64_t operations() {
  const char* text = std::getenv("CRIA_MODEL_OPERATIONS");
  return text ? std::strtoull(text, nullptr, 10) : 1'000'000;
}

}  // namespace

TEST_CASE("random operations: no page leaks or is shared wrongly, and no sequence starves") {
  const std::uint64_t total = operations();
  const SchedulerLimits shapes[] = {
      {24, 4, 16, 6}, {8, 4, 8, 3}, {40, 2, 32, 12}, {3, 8, 5, 2}, {64, 1, 7, 4}};
  std::uint64_t reused = 0, preempted = 0, copies = 0, ended = 0;
  const std::uint32_t rounds = 50;
  for (std::uint32_t round = 0; round < rounds; round++) {
    Model model(round, shapes[round % std::size(shapes)]);
    INFO("round " << round);
    for (std::uint64_t i = 0; i < total / rounds; i++) model.operate();
    model.drain();
    reused += model.reused;
    preempted += model.preempted;
    copies += model.copies;
    ended += model.ended;
  }
  MESSAGE(total << " operations: " << ended << " sequences ended, " << reused << " tokens reused, " << copies
                << " pages copied, " << preempted << " preemptions");
  CHECK(ended > total / 100);
  CHECK(reused > total / 20);
  CHECK(preempted > total / 1000);
  CHECK(copies > total / 1000);
}
