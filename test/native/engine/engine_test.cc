// The engine with the demo model: whole requests, several threads, cancellation and stop at any time.
#include "engine/engine.h"

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>

#include "engine/engine_fixture.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("greedy text is the same for any number of threads and any prefill chunk") {
  std::vector<TokenId> first;
  const auto n = static_cast<std::size_t>(sized(48, 8));
  for (const auto& [threads, chunk] : {std::pair{1, 0}, {2, 0}, {3, 1}, {2, 3}}) {
    Fixture f(load_demo(threads, DType::f16, chunk));
    const auto result = f.sink->wait(f.engine->submit(story(sized(48, 8))));
    REQUIRE(result.end.has_value());
    CHECK(result.end->reason == FinishReason::length);
    CHECK(result.tokens.size() == n);
    CHECK(result.end->usage.generated_tokens == sized(48, 8));
    CHECK(result.end->usage.prompt_tokens > 1);
    if (first.empty()) first = result.tokens;
    CHECK(result.tokens == first);
  }
}

TEST_CASE("the backend and the sampler make the same greedy choice") {
  Fixture f;
  GenerateRequest with_logprobs = story(sized(32, 8));
  with_logprobs.sampling.logprobs = 0;
  const auto plain = f.sink->wait(f.engine->submit(story(sized(32, 8))));
  CHECK(f.sink->wait(f.engine->submit(with_logprobs)).tokens == plain.tokens);
}

TEST_CASE("same seed, same tokens; another seed, others") {
  Fixture f;
  const auto a = f.sink->wait(f.engine->submit(story(sized(40, 10), 1.0, 7)));
  const auto b = f.sink->wait(f.engine->submit(story(sized(40, 10), 1.0, 7)));
  const auto c = f.sink->wait(f.engine->submit(story(sized(40, 10), 1.0, 8)));
  CHECK(a.tokens == b.tokens);
  CHECK(a.tokens != c.tokens);
}

TEST_CASE("the logits of a prompt are the same in one chunk and in many") {
  EncodeOptions options;
  Fixture whole, pieces(load_demo(1, DType::f16, 5));
  const std::vector<TokenId> ids =
      whole.tokenizer->encode("One day a small bear found a red kite in the park.", options);
  const auto a = whole.sink->wait(whole.engine->submit(LogitsRequest{ids}));
  const auto b = pieces.sink->wait(pieces.engine->submit(LogitsRequest{ids}));
  REQUIRE(a.logits.size() == whole.tokenizer->vocab_size());
  CHECK(a.logits == b.logits);
}

TEST_CASE("bad requests end in typed errors and leave the engine working") {
  Fixture f(load_demo(2, DType::f16, 0, sized(0, 80)));
  const auto code = [&](auto request) {
    const auto result = f.sink->wait(f.engine->submit(std::move(request)));
    REQUIRE(result.error.has_value());
    return result.error->code();
  };
  GenerateRequest empty = story(1);
  empty.prompt = std::vector<TokenId>{};
  CHECK(code(empty) == ErrorCode::invalid_argument);
  CHECK(code(LogitsRequest{}) == ErrorCode::invalid_argument);
  CHECK(code(LogitsRequest{{1, 0xffffffff}}) == ErrorCode::invalid_argument);
  GenerateRequest hot = story(1);
  hot.sampling.temperature = NAN;
  CHECK(code(hot) == ErrorCode::invalid_argument);
  GenerateRequest forbidden = story(4);
  for (std::uint32_t id = 0; id < f.tokenizer->vocab_size(); id++)
    forbidden.sampling.logit_bias.emplace_back(id, -INFINITY);
  CHECK(code(forbidden) == ErrorCode::invalid_argument);
  const auto length = static_cast<std::size_t>(f.context_length);
  GenerateRequest too_long = story(1);
  too_long.prompt = std::vector<TokenId>(length, 5);
  CHECK(code(too_long) == ErrorCode::prompt_too_long);
  CHECK(code(LogitsRequest{std::vector<TokenId>(length + 1, 5)}) == ErrorCode::prompt_too_long);
  CHECK(f.sink->wait(f.engine->submit(LogitsRequest{std::vector<TokenId>(length, 5)})).logits.size() > 0);
  CHECK(f.sink->wait(f.engine->submit(story(5))).tokens.size() == 5);
}

TEST_CASE("a full context ends only the generation") {
  Fixture f(load_demo(2, DType::f16, 0, 40));
  const auto result = f.sink->wait(f.engine->submit(story(-1)));
  REQUIRE(result.end.has_value());
  CHECK(result.end->reason == FinishReason::context);
  CHECK(result.end->usage.prompt_tokens + result.end->usage.generated_tokens == 40);
  CHECK(f.sink->wait(f.engine->submit(story(0))).end->reason == FinishReason::length);
}

TEST_CASE("cancel: waiting, running, ended and unknown requests") {
  Fixture f;
  const RequestId running = f.engine->submit(story(100'000));
  const RequestId waiting = f.engine->submit(story(100'000));
  const RequestId logits = f.engine->submit(LogitsRequest{{1, 2, 3}});
  f.sink->wait_for_token(running);
  f.engine->cancel(waiting);
  f.engine->cancel(logits);
  CHECK(f.sink->wait(waiting).end->reason == FinishReason::abort);
  const auto ended = f.sink->wait(logits);  // or it ended before
  CHECK((ended.error ? ended.error->code() == ErrorCode::aborted : !ended.logits.empty()));
  f.engine->cancel(running);
  const auto result = f.sink->wait(running);
  CHECK(result.tokens.size() > 0);
  f.engine->cancel(running);
  f.engine->cancel(12345);
  CHECK(f.sink->wait(f.engine->submit(story(3))).tokens.size() == 3);
}

TEST_CASE("stop in the middle rejects every request once, and all later ones") {
  Fixture f;
  std::vector<RequestId> ids;
  for (int i = 0; i < 5; i++) ids.push_back(f.engine->submit(story(100'000)));
  f.sink->wait_for_token(ids[0]);
  f.engine->stop();
  f.engine->stop();
  for (const RequestId id : ids) {
    const auto result = f.sink->wait(id);
    REQUIRE(result.error.has_value());
    CHECK(result.error->code() == ErrorCode::disposed);
  }
  CHECK_THROWS_AS(f.engine->submit(story(1)), Error);
}

TEST_CASE("many threads submit and cancel at random: every request ends once") {
  Fixture f;
  std::vector<std::thread> callers;
  std::atomic<std::size_t> submitted{0};
  for (unsigned seed = 0; seed < 4; seed++) {
    callers.emplace_back([&, seed] {
      std::mt19937 rng(seed);
      for (int i = 0; i < sized(40, 5); i++) {
        const RequestId id = rng() % 4 ? f.engine->submit(story(static_cast<std::int32_t>(rng() % 12)))
                                       : f.engine->submit(LogitsRequest{{1, 2, 3}});
        submitted++;
        if (rng() % 2) f.engine->cancel(id);
      }
    });
  }
  for (std::thread& t : callers) t.join();
  const auto deadline = Clock::now() + std::chrono::seconds(120);
  while (f.sink->finished() < submitted && Clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(f.sink->finished() == submitted);
}

TEST_CASE("a mapped file gives the same tokens as a file that is read" * doctest::skip(!kOnCpu)) {
  LoadOptions options;
  options.path = kDemoModel;
  options.mmap = true;
  Fixture mapped(load_model(options, nullptr, CancelFlag{})), read;
  const auto tokens = mapped.sink->wait(mapped.engine->submit(story(30))).tokens;
  CHECK(tokens.size() == 30);
  CHECK(tokens == read.sink->wait(read.engine->submit(story(30))).tokens);
}

TEST_CASE("loading: progress reaches the end, and a cancelled load stops") {
  LoadOptions options;
  options.path = kDemoModel;
  options.backend.device = kTestDevice;
  std::uint64_t last = 0, total = 0;
  CancelFlag cancel;
  const LoadProgress progress = [&](std::uint64_t loaded, std::uint64_t all) {
    CHECK(loaded > last);
    last = loaded;
    total = all;
  };
  load_model(options, progress, cancel);
  CHECK(last == total);
  cancel.cancel();
  CHECK_THROWS_AS(load_model(options, nullptr, cancel), Error);
  options.context_length = 1 << 30;
  CHECK_THROWS_AS(load_model(options, nullptr, CancelFlag{}), Error);
  options.context_length = 100;
  options.kv_memory = 1000;
  CHECK_THROWS_AS(load_model(options, nullptr, CancelFlag{}), Error);
}
