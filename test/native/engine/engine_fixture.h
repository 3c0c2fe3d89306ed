// An engine with the demo model, and the results of its requests.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/demo_model.h"
#include "engine/engine.h"

namespace cria::test {

/// Collects every request's events and checks that each ends exactly once.
class Collector : public EventSink {
 public:
  struct Result {
    std::vector<TokenId> tokens;
    std::string text;
    std::optional<EndEvent> end;
    std::optional<Error> error;
    std::vector<float> logits;
    std::shared_ptr<const KvState> state;
    std::int32_t restored = 0;
    int preemptions = 0;
    bool finished = false;
  };

  void deliver(std::vector<Delivery>&& deliveries) override {
    const std::lock_guard lock(mutex_);
    for (Delivery& d : deliveries) {
      Result& r = results_[d.request];
      if (r.finished) violations++;
      if (auto* chunk = std::get_if<ChunkEvent>(&d.event)) {
        r.tokens.insert(r.tokens.end(), chunk->tokens.begin(), chunk->tokens.end());
        r.text += chunk->text;
        continue;
      }
      if (auto* status = std::get_if<StatusEvent>(&d.event)) {
        r.preemptions += status->status == StatusEvent::Status::preempted;
        continue;
      }
      if (auto* end = std::get_if<EndEvent>(&d.event)) r.end = *end;
      if (auto* error = std::get_if<Error>(&d.event)) r.error = *error;
      if (auto* logits = std::get_if<LogitsEvent>(&d.event)) r.logits = logits->logits;
      if (auto* saved = std::get_if<StateSavedEvent>(&d.event)) r.state = saved->state;
      if (auto* restored = std::get_if<StateRestoredEvent>(&d.event)) r.restored = restored->n_tokens;
      r.finished = true;
    }
    changed_.notify_all();
  }

  Result wait(RequestId id) {
    std::unique_lock lock(mutex_);
    wait_until(lock, [&] { return results_[id].finished; });
    return results_[id];
  }
  void wait_for_token(RequestId id) {
    std::unique_lock lock(mutex_);
    wait_until(lock, [&] { return !results_[id].tokens.empty(); });
  }
  std::vector<TokenId> so_far(RequestId id) {
    const std::lock_guard lock(mutex_);
    return results_[id].tokens;
  }
  std::size_t finished() {
    const std::lock_guard lock(mutex_);
    std::size_t n = 0;
    for (const auto& [id, r] : results_) n += r.finished;
    return n;
  }
  std::atomic<int> violations{0};

 private:
  /// Waits for a minute in steps of a second, so that at most one second counts while the process is stopped
  /// or the machine is asleep.
  template <class Condition>
  void wait_until(std::unique_lock<std::mutex>& lock, const Condition& condition) {
    bool in_time = false;
    for (int second = 0; second < 60 && !in_time; second++)
      in_time = changed_.wait_for(lock, std::chrono::seconds(1), condition);
    REQUIRE(in_time);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<RequestId, Result> results_;
};

struct Fixture {
  std::shared_ptr<Collector> sink = std::make_shared<Collector>();
  std::shared_ptr<const Tokenizer> tokenizer;
  std::int32_t context_length = 0;
  std::unique_ptr<Engine> engine;

  explicit Fixture(LoadedModel loaded = load_demo(2))
      : tokenizer(loaded.tokenizer), context_length(loaded.engine.context_length) {
    engine = std::make_unique<Engine>(std::move(loaded.decoder), loaded.tokenizer, loaded.engine, sink);
  }
  ~Fixture() { CHECK(sink->violations == 0); }
};

inline GenerateRequest story(std::int32_t max_tokens, double temperature = 0, std::uint64_t seed = 1) {
  GenerateRequest r;
  r.prompt = PromptText{{{"Once upon a time", false}}, std::nullopt};
  r.max_tokens = max_tokens;
  r.ignore_eos = true;
  r.sampling.temperature = temperature;
  r.sampling.seed = seed;
  return r;
}

}  // namespace cria::test
