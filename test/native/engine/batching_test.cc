// Concurrent requests: each gives the same tokens as alone, and none disturbs another.
#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "engine/engine_fixture.h"
#include "random_inputs.h"

using namespace cria;
using namespace cria::test;

namespace {

constexpr const char* kBeginnings[] = {
    "Once upon a time", "One day a small bear found a red kite in the park.", "Lily and Tom went to the sea",
    "Once upon a time there was a cat", "\"Look!\" said the old man."};

constexpr auto kMany = static_cast<std::uint32_t>(sized(33, 10));

/// The i-th of a set of requests that differ in prompt, length, temperature and seed.
GenerateRequest varied(std::uint32_t i) {
  GenerateRequest r =
      story(sized(20, 3) + static_cast<std::int32_t>(i % 7) * sized(9, 1), i % 3 == 0 ? 0.0 : 0.9, i);
  std::string text = kBeginnings[i % std::size(kBeginnings)];
  for (std::uint32_t n = 0; n < i % 4; n++) text += " The sun was warm and the birds sang in the trees.";
  r.prompt = PromptText{{{text, false}}, std::nullopt};
  if (i % 5 == 0) r.sampling.repetition_penalty = 1.1;
  return r;
}

std::vector<std::vector<TokenId>> run_alone(std::uint32_t n) {
  std::vector<std::vector<TokenId>> tokens;
  for (std::uint32_t i = 0; i < n; i++) {
    Fixture f;  // a new engine for each request, so that nothing is cached
    tokens.push_back(f.sink->wait(f.engine->submit(varied(i))).tokens);
  }
  return tokens;
}

const std::vector<std::vector<TokenId>>& alone() {
  static const auto tokens = run_alone(kMany);
  return tokens;
}

/// Runs requests of varied() together in this order, and compares each with its result alone.
std::uint64_t compare_with_alone(Fixture& f, const std::vector<std::uint32_t>& order) {
  std::vector<RequestId> ids;
  for (const std::uint32_t i : order) ids.push_back(f.engine->submit(varied(i)));
  std::uint64_t cached = 0;
  for (std::size_t n = 0; n < order.size(); n++) {
    const auto result = f.sink->wait(ids[n]);
    INFO("request " << order[n] << " of " << order.size());
    REQUIRE(result.end.has_value());
    CHECK(result.tokens == alone()[order[n]]);
    cached += static_cast<std::uint64_t>(result.end->usage.cached_tokens);
  }
  return cached;
}

LoadedModel load_small_pool(std::int32_t n_pages, std::int32_t prefill_chunk = 0) {
  LoadedModel loaded = load_demo(2, DType::f16, prefill_chunk);
  REQUIRE(loaded.engine.n_pages > n_pages);
  loaded.engine.n_pages = n_pages;
  loaded.engine.context_length = std::min(loaded.engine.context_length, n_pages * 32);
  return loaded;
}

}  // namespace

TEST_CASE("same seed, same tokens: alone, among 2, 8 and 32 others, shuffled, with prefix hits") {
  for (const std::uint32_t n : {1u, 3u, 9u, kMany}) {
    std::vector<std::uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    Fixture f;
    compare_with_alone(f, order);
    std::shuffle(order.begin(), order.end(), std::mt19937(n));
    const std::uint64_t cached = compare_with_alone(f, order);  // everything is in the cache now
    CHECK(cached > 0);
    CHECK(f.engine->stats().cached_tokens >= cached);
    CHECK(f.engine->stats().pages_used == 0);
  }
}

TEST_CASE("same seed, same tokens: for any prefill chunk") {
  for (const std::int32_t chunk : {sized(1, 5), 7, 33}) {
    Fixture f(load_demo(2, DType::f16, chunk));
    std::vector<std::uint32_t> order(static_cast<std::size_t>(sized(16, 5)));
    std::iota(order.begin(), order.end(), 0u);
    compare_with_alone(f, order);
  }
}

TEST_CASE("a token's logits have the same bits whichever other tokens of the pass get logits") {
  LoadedModel loaded = load_demo(2);
  Decoder& decoder = *loaded.decoder;
  const std::uint32_t a[] = {5, 9, 40, 7, 300, 21, 8}, b[] = {11, 6, 250};
  const std::int32_t page_a[] = {0}, page_b[] = {1};
  const auto one_by_one = [&](std::span<const std::uint32_t> tokens, std::span<const std::int32_t> pages) {
    std::vector<float> last;
    for (std::size_t i = 0; i < tokens.size(); i++) {
      const DecoderInput input{tokens.subspan(i, 1), static_cast<std::int32_t>(i), pages, true};
      REQUIRE(decoder.forward({&input, 1}, nullptr));
      const std::span<const float> logits = decoder.logits(0);
      last.assign(logits.begin(), logits.end());
    }
    return last;
  };
  const std::vector<float> of_a = one_by_one(a, page_a), of_b = one_by_one(b, page_b);
  const auto check = [&](std::size_t row, const std::vector<float>& expected) {
    const std::span<const float> logits = decoder.logits(row);
    CHECK(same_bits({logits.begin(), logits.end()}, expected));
  };
  for (const bool a_wants : {true, false}) {
    for (const bool b_wants : {true, false}) {
      CAPTURE(a_wants);
      CAPTURE(b_wants);
      const DecoderInput both[] = {{a, 0, page_a, a_wants}, {b, 0, page_b, b_wants}};
      REQUIRE(decoder.forward(both, nullptr));
      if (a_wants) check(0, of_a);
      if (b_wants) check(a_wants ? 1 : 0, of_b);
    }
  }
  // A first chunk without logits leaves the cache that the rest needs.
  const DecoderInput beginning{std::span(a).first(4), 0, page_a, false},
      rest{std::span(a).subspan(4), 4, page_a, true};
  REQUIRE(decoder.forward({&beginning, 1}, nullptr));
  REQUIRE(decoder.forward({&rest, 1}, nullptr));
  check(0, of_a);
}

TEST_CASE("same seed, same tokens: after preemption") {
  const std::int32_t pages = sized(6, 3);
  Fixture f(load_small_pool(pages));
  std::vector<std::uint32_t> order(static_cast<std::size_t>(sized(24, 10)));
  std::iota(order.begin(), order.end(), 0u);
  compare_with_alone(f, order);
  const EngineStats stats = f.engine->stats();
  if (kOnCpu) CHECK(stats.preemptions > 0);  // other backends may have enough pages
  CHECK(stats.finished == order.size());
  CHECK(stats.pages == pages);
  CHECK(stats.pages_used == 0);
}

TEST_CASE("requests for the same prompt compute it once") {
  Fixture f;
  std::string text = "Once upon a time";
  for (int i = 0; i < 12; i++)
    text += " there was a little dog who liked to run and jump and play with his friends";
  GenerateRequest request = story(sized(8, 3), 1.0);
  request.prompt = PromptText{{{text, false}}, std::nullopt};
  std::vector<RequestId> ids;
  for (std::uint64_t seed = 0; seed < 16; seed++) {
    request.sampling.seed = seed;
    ids.push_back(f.engine->submit(request));
  }
  std::int32_t computed = 0, n_prompt = 0;
  for (const RequestId id : ids) {
    const auto result = f.sink->wait(id);
    n_prompt = result.end->usage.prompt_tokens;
    computed += n_prompt - result.end->usage.cached_tokens;
  }
  REQUIRE(n_prompt > 64);
  CHECK(computed == n_prompt + 15);  // the others run only the last token
}

TEST_CASE("a paused request rests while others continue, and its result is that of an unpaused one") {
  Fixture f;
  const auto whole = f.sink->wait(f.engine->submit(story(sized(120, 40), 0.8, 5))).tokens;
  const RequestId id = f.engine->submit(story(sized(120, 40), 0.8, 5));
  f.engine->set_paused(id, true);
  CHECK(f.sink->wait(f.engine->submit(story(sized(60, 6)))).tokens.size() == sized_count(60, 6));
  const auto before = f.sink->so_far(id);
  CHECK(before.size() < sized_count(120, 40));
  CHECK(f.sink->wait(f.engine->submit(story(sized(30, 6)))).tokens.size() == sized_count(30, 6));
  CHECK(f.sink->so_far(id) == before);
  CHECK(f.engine->stats().paused == 1);
  f.engine->set_paused(id, false);
  CHECK(f.sink->wait(id).tokens == whole);
  f.engine->set_paused(id, true);  // ignored, since it has ended
  f.engine->set_paused(999, true);

  const RequestId cancelled = f.engine->submit(story(120));
  f.engine->set_paused(cancelled, true);
  f.engine->cancel(cancelled);
  CHECK(f.sink->wait(cancelled).end->reason == FinishReason::abort);
  CHECK(f.engine->stats().pages_used == 0);
}

TEST_CASE("a full queue refuses requests, and the error has the numbers") {
  LoadedModel loaded = load_demo(2);
  loaded.engine.max_queue = 3;
  Fixture f(std::move(loaded));
  std::vector<RequestId> ids;
  std::optional<Error> refused;
  for (int i = 0; i < 200 && !refused; i++) {
    try {
      ids.push_back(f.engine->submit(story(100'000)));
    } catch (const Error& e) {
      refused = e;
    }
  }
  REQUIRE(refused.has_value());
  CHECK(refused->code() == ErrorCode::queue_full);
  CHECK(ids.size() >= static_cast<std::size_t>(kMaxSequences));
  CHECK(ids.size() <= static_cast<std::size_t>(kMaxSequences) + 3 + 1);
  for (const RequestId id : ids) f.engine->cancel(id);
  for (const RequestId id : ids) f.sink->wait(id);
  CHECK(f.sink->wait(f.engine->submit(story(3))).tokens.size() == 3);
}

TEST_CASE("a timeout ends its own request and keeps its text so far") {
  Fixture f;
  GenerateRequest slow = story(100'000);
  slow.timeout_ms = 400;
  slow.on_context_full = OnContextFull::shift;  // it would run for a long time
  const RequestId timed = f.engine->submit(slow), other = f.engine->submit(story(sized(50, 10)));
  const RequestId paused = f.engine->submit(slow);
  f.engine->set_paused(paused, true);
  const auto result = f.sink->wait(timed);
  REQUIRE(result.error.has_value());
  CHECK(result.error->code() == ErrorCode::timeout);
  CHECK(result.tokens.size() > 0);
  CHECK(f.sink->wait(other).tokens.size() == sized_count(50, 10));
  CHECK(f.sink->wait(paused).error->code() == ErrorCode::timeout);  // nothing else wakes the engine
}

TEST_CASE("a full context: an error, or a shift after which it continues") {
  Fixture f(load_demo(2, DType::f16, 0, sized(48, 24)));
  GenerateRequest request = story(-1);
  request.on_context_full = OnContextFull::error;
  const auto failed = f.sink->wait(f.engine->submit(request));
  REQUIRE(failed.error.has_value());
  CHECK(failed.error->code() == ErrorCode::context_full);
  CHECK(failed.tokens.size() > sized_count(10, 3));

  request = story(sized(200, 30), 0.7, 3);
  request.on_context_full = OnContextFull::shift;
  const auto shifted = f.sink->wait(f.engine->submit(request));
  REQUIRE(shifted.end.has_value());
  CHECK(shifted.end->reason == FinishReason::length);
  CHECK(shifted.tokens.size() == sized_count(200, 30));
  CHECK(shifted.end->usage.dropped_tokens > sized(100, 10));
  CHECK(f.engine->stats().pages_used == 0);
  // The same among other requests.
  std::vector<RequestId> others;
  for (std::uint32_t i = 0; i < sized_count(6, 3); i++)
    others.push_back(f.engine->submit(story(sized(20, 5), 0.9, i)));
  CHECK(f.sink->wait(f.engine->submit(request)).tokens == shifted.tokens);
  for (const RequestId id : others) f.sink->wait(id);

  for (const std::int32_t keep : {0, 1, sized(40, 20), 1000}) {
    request.keep_tokens = keep;
    CHECK(f.sink->wait(f.engine->submit(request)).tokens.size() == sized_count(200, 30));
  }
}

TEST_CASE("with a saved state another engine need not compute the prompt") {
  Fixture a, b;
  GenerateRequest request = varied(3);
  const auto expected = a.sink->wait(a.engine->submit(request)).tokens;
  const auto saved = a.sink->wait(a.engine->submit(SaveStateRequest{request.prompt}));
  REQUIRE(saved.state);
  CHECK(saved.state->tokens.size() > 32);
  const auto restored = b.sink->wait(b.engine->submit(RestoreStateRequest{saved.state}));
  CHECK(restored.restored == static_cast<std::int32_t>(saved.state->tokens.size()));
  const auto result = b.sink->wait(b.engine->submit(request));
  CHECK(result.tokens == expected);
  CHECK(result.end->usage.cached_tokens == result.end->usage.prompt_tokens - 1);

  auto bad = std::make_shared<KvState>();
  bad->tokens = saved.state->tokens;
  bad->pages = HugeMemory(saved.state->pages.size() - 1, "a test");
  CHECK(b.sink->wait(b.engine->submit(RestoreStateRequest{bad})).error->code() == ErrorCode::internal);
  Fixture small(load_small_pool(1));
  CHECK(small.sink->wait(small.engine->submit(RestoreStateRequest{saved.state})).error.has_value());
  CHECK(b.engine->stats().pages_used == 0);
}

TEST_CASE("cancel takes effect within a step while others run") {
  Fixture f;
  const RequestId other = f.engine->submit(story(100'000));
  f.sink->wait_for_token(other);
  for (int i = 0; i < sized(20, 6); i++) {
    const RequestId id = f.engine->submit(story(100'000, 0.9, static_cast<std::uint64_t>(i)));
    if (i % 2) f.sink->wait_for_token(id);
    f.engine->cancel(id);
    const std::size_t before = f.sink->so_far(id).size();
    const auto result = f.sink->wait(id);
    CHECK(result.end->reason == FinishReason::abort);
    CHECK(result.tokens.size() <= before + 1);  // of the step in progress
  }
  f.engine->cancel(other);
}

TEST_CASE("a saved state contains nothing of other requests") {
  // The same state from a fresh cache and from pages that others have used.
  Fixture fresh, used(load_small_pool(4));
  for (std::uint32_t i = 0; i < sized_count(8, 4); i++) used.sink->wait(used.engine->submit(varied(i)));
  const Prompt prompt = PromptText{{{"The old man saw", false}}, std::nullopt};
  const auto a = fresh.sink->wait(fresh.engine->submit(SaveStateRequest{prompt})).state;
  const auto b = used.sink->wait(used.engine->submit(SaveStateRequest{prompt})).state;
  REQUIRE(a->pages.size() == b->pages.size());
  CHECK(std::equal(a->pages.data(), a->pages.data() + a->pages.size(), b->pages.data()));
}

TEST_CASE("an idle engine holds nothing, and a cancelled request reports the phase it ended in") {
  Fixture f;
  std::vector<TokenId> ids(100);
  std::iota(ids.begin(), ids.end(), 300u);
  GenerateRequest request = story(1);
  request.prompt = ids;
  f.sink->wait(f.engine->submit(request));
  ids.resize(50);  // shares a part of the second page, which is copied
  ids.insert(ids.end(), {1000u, 1001u});
  request.prompt = ids;
  CHECK(f.sink->wait(f.engine->submit(request)).end->usage.cached_tokens == 50);
  CHECK(f.engine->stats().pages_used == 0);

  const RequestId queued = f.engine->submit(story(sized(100, 20)));
  f.engine->set_paused(queued, true);
  f.sink->wait(f.engine->submit(story(sized(20, 5))));
  f.engine->cancel(queued);
  const Usage usage = f.sink->wait(queued).end->usage;
  CHECK(usage.queue_ms + usage.prefill_ms + usage.decode_ms > 0);
  if (usage.generated_tokens == 0) CHECK(usage.decode_ms == 0);
}
