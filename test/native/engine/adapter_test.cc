// Requests with different adapters share steps and nothing else: neither bits nor pages.
#include <algorithm>
#include <array>
#include <cmath>

#include "engine/engine_fixture.h"
#include "io/adapter_builder.h"
#include "io/temp_dir.h"
#include "random_inputs.h"

using namespace cria;
using namespace cria::test;

namespace {

/// The demo model with two adapters.
LoadedModel load_adapted(std::int32_t n_pages = 0) {
  static const TempDir dir;
  static const std::array<std::string, 2> paths = [] {
    const ModelConfig config = read_config(*ModelSource::open(kDemoModel));
    return std::array{write_file(dir.path / "a.gguf", random_adapter(config, 1, 4, 2.0f).build()),
                      write_file(dir.path / "b.gguf", random_adapter(config, 2, 3, 1.5f).build())};
  }();
  LoadOptions options;
  options.path = kDemoModel;
  options.backend = {kTestDevice, 2};
  for (const std::string& path : paths) options.adapters.push_back({.path = path});
  const CancelFlag never;
  LoadedModel loaded = load_model(options, nullptr, never);
  if (n_pages > 0) {
    loaded.engine.n_pages = n_pages;
    loaded.engine.context_length = std::min(loaded.engine.context_length, n_pages * 32);
  }
  return loaded;
}

const std::vector<AdapterSet>& sets() {
  static const std::vector<AdapterSet> sets = {
      {}, {{0, 1.0f}}, {{1, 1.0f}}, {{0, 0.5f}}, {{0, 0.25f}, {1, -0.5f}}, {{1, 2.0f}}};
  return sets;
}

GenerateRequest request_with(std::size_t set, std::int32_t max_tokens = sized(24, 3)) {
  GenerateRequest r = story(max_tokens);
  std::string text = "Once upon a time there was a small bear who lived in the wood.";
  for (std::size_t n = 0; n < 2; n++) text += " The sun was warm and the birds sang in the trees.";
  r.prompt = PromptText{{{text, false}}, std::nullopt};
  r.adapters = sets()[set];
  return r;
}

/// The tokens of each set, each in an engine of its own.
const std::vector<std::vector<TokenId>>& alone() {
  static const auto tokens = [] {
    std::vector<std::vector<TokenId>> all;
    for (std::size_t i = 0; i < sets().size(); i++) {
      Fixture f(load_adapted());
      all.push_back(f.sink->wait(f.engine->submit(request_with(i))).tokens);
    }
    return all;
  }();
  return tokens;
}

std::vector<float> logits_with(Fixture& f, AdapterSet set) {
  return f.sink->wait(f.engine->submit(LogitsRequest{{1, 40, 7, 300, 21, 8, 5}, std::move(set)})).logits;
}

}  // namespace

TEST_CASE("adapters: every set gives other tokens, and in one batch those that it gives alone") {
  for (std::size_t i = 1; i < sets().size(); i++) CHECK(alone()[i] != alone()[0]);
  Fixture f(load_adapted());
  std::vector<RequestId> ids;
  constexpr std::size_t kRounds = 2;
  for (std::size_t i = 0; i < kRounds * sets().size(); i++)
    ids.push_back(f.engine->submit(request_with(i % sets().size())));
  for (std::size_t i = 0; i < ids.size(); i++) {
    CAPTURE(i);
    CHECK(f.sink->wait(ids[i]).tokens == alone()[i % sets().size()]);
  }
}

TEST_CASE("adapters: logits have the same bits alone and in a batch, with and without the others' rows") {
  LoadedModel loaded = load_adapted();
  Decoder& decoder = *loaded.decoder;
  const std::uint32_t prompt[] = {5, 9, 40, 7, 300};
  std::vector<std::vector<float>> alone;
  std::vector<std::array<std::int32_t, 1>> pages(sets().size());
  for (std::size_t i = 0; i < sets().size(); i++) {
    pages[i][0] = static_cast<std::int32_t>(i);
    const DecoderInput input{
        .tokens = prompt, .block_table = pages[i], .wants_logits = true, .adapters = sets()[i]};
    REQUIRE(decoder.forward({&input, 1}, nullptr));
    const std::span<const float> logits = decoder.logits(0);
    alone.emplace_back(logits.begin(), logits.end());
  }
  for (const std::size_t skipped : {sets().size(), std::size_t{0}, std::size_t{3}}) {
    std::vector<DecoderInput> inputs;
    for (std::size_t i = sets().size(); i-- > 0;)  // not in the order of the adapters
      inputs.push_back(
          {.tokens = prompt, .block_table = pages[i], .wants_logits = i != skipped, .adapters = sets()[i]});
    REQUIRE(decoder.forward(inputs, nullptr));
    std::size_t row = 0;
    for (std::size_t i = sets().size(); i-- > 0;) {
      if (i == skipped) continue;
      const std::span<const float> logits = decoder.logits(row++);
      CAPTURE(i);
      CHECK(same_bits({logits.begin(), logits.end()}, alone[i]));
    }
  }
}

TEST_CASE("adapters: without them the bits are those of a model that was loaded alone") {
  Fixture adapted(load_adapted()), plain;
  const std::vector<float> expected = logits_with(plain, {});
  CHECK(same_bits(logits_with(adapted, {}), expected));
  CHECK(same_bits(logits_with(adapted, {{0, 0.0f}, {1, -0.0f}}), expected));
  CHECK_FALSE(same_bits(logits_with(adapted, {{1, 1e-3f}}), expected));
}

TEST_CASE("adapters: the order in which a request names them makes no difference") {
  Fixture f(load_adapted());
  CHECK(same_bits(logits_with(f, {{1, -0.5f}, {0, 0.25f}}), logits_with(f, {{0, 0.25f}, {1, -0.5f}})));
}

TEST_CASE("adapters: the prefix cache never crosses sets, and serves each") {
  Fixture f(load_adapted());
  for (int round = 0; round < 2; round++) {
    for (std::size_t i = 0; i < sets().size(); i++) {
      CAPTURE(round);
      CAPTURE(i);
      const auto result = f.sink->wait(f.engine->submit(request_with(i)));
      CHECK(result.tokens == alone()[i]);
      if (round == 0)
        CHECK(result.end->usage.cached_tokens == 0);
      else
        CHECK(result.end->usage.cached_tokens > 0);
    }
  }
  CHECK(f.engine->stats().pages_used == 0);
}

TEST_CASE("adapters: the same tokens when pages are few and requests are preempted") {
  Fixture f(load_adapted(sized(6, 3)));
  std::vector<RequestId> ids;
  for (std::size_t i = 0; i < 3 * sets().size(); i++)
    ids.push_back(f.engine->submit(request_with(i % sets().size())));
  for (std::size_t i = 0; i < ids.size(); i++) {
    CAPTURE(i);
    CHECK(f.sink->wait(ids[i]).tokens == alone()[i % sets().size()]);
  }
}

TEST_CASE("adapters: a saved state serves the set with which it was computed, and no other") {
  Fixture a(load_adapted()), b(load_adapted());
  const GenerateRequest request = request_with(4);
  const auto saved = a.sink->wait(a.engine->submit(SaveStateRequest{request.prompt, request.adapters})).state;
  REQUIRE(saved);
  const RequestId restored = b.engine->submit(RestoreStateRequest{saved, request.adapters});
  CHECK(b.sink->wait(restored).restored == static_cast<std::int32_t>(saved->tokens.size()));
  for (std::size_t i = 0; i < sets().size(); i++) {
    CAPTURE(i);
    const auto result = b.sink->wait(b.engine->submit(request_with(i)));
    CHECK(result.tokens == alone()[i]);
    CHECK((result.end->usage.cached_tokens > 0) == (i == 4));
  }
}

TEST_CASE("adapters: unknown ones, one twice and infinite scales end the request with an error") {
  Fixture f(load_adapted());
  for (const AdapterSet& set :
       {AdapterSet{{2, 1.0f}}, AdapterSet{{-1, 1.0f}}, AdapterSet{{0, 1.0f}, {0, 2.0f}},
        AdapterSet{{0, INFINITY}}, AdapterSet{{1, NAN}}}) {
    const auto result = f.sink->wait(f.engine->submit(LogitsRequest{{1, 2}, set}));
    REQUIRE(result.error.has_value());
    CHECK(result.error->code() == ErrorCode::invalid_argument);
  }
  CHECK(logits_with(f, {}).size() > 0);
}

TEST_CASE("adapters: memory and parameters are counted") {
  const LoadedModel loaded = load_adapted();
  const std::vector<Adapter>& adapters = loaded.decoder->weights().adapters;
  REQUIRE(adapters.size() == 2);
  CHECK(adapters[0].info.rank == 4);
  CHECK(adapters[1].info.rank == 3);
  CHECK(adapters[0].info.format == "gguf");
  CHECK(adapters[0].info.bytes >= adapters[0].info.parameters * sizeof(float));
  CHECK(adapters[0].info.parameters * 3 == adapters[1].info.parameters * 4);
  CHECK(adapters[0].info.fingerprint != adapters[1].info.fingerprint);
}

TEST_CASE("adapters: a fingerprint for each set and scale") {
  const std::uint64_t own[] = {11, 12};
  std::vector<std::uint64_t> prints = {adapted_fingerprint(5, own, {})};
  CHECK(prints[0] == 5);
  for (const AdapterSet& set : {AdapterSet{{0, 1.0f}}, AdapterSet{{1, 1.0f}}, AdapterSet{{0, 2.0f}},
                                AdapterSet{{0, 1.0f}, {1, 1.0f}}, AdapterSet{{0, 1.0f}, {1, 2.0f}}})
    prints.push_back(adapted_fingerprint(5, own, set));
  prints.push_back(adapted_fingerprint(6, own, {{0, 1.0f}}));
  std::ranges::sort(prints);
  CHECK(std::ranges::adjacent_find(prints) == prints.end());
}

TEST_CASE("adapter roots: a set's own while pages or requests need it, then another's") {
  PrefixTree tree(4, 2);
  AdapterRoots roots;
  CHECK(roots.acquire({}, tree) == PrefixTree::kRoot);
  const PageId a = roots.acquire({{0, 1.0f}}, tree), b = roots.acquire({{0, 2.0f}}, tree);
  CHECK(a != b);
  CHECK(roots.acquire({{0, 1.0f}}, tree) == a);
  roots.release(a);
  roots.release(a);
  const std::uint32_t tokens[] = {1, 2};
  tree.insert(0, a, tokens);
  roots.release(b);
  CHECK(roots.acquire({{1, 1.0f}}, tree) == b);  // b was not needed any more, a has a page
  CHECK(roots.size() == 2);
  std::vector<PageId> erased;
  tree.erase(0, erased);
  CHECK(roots.acquire({{1, 3.0f}}, tree) == a);
  CHECK(roots.size() == 2);
}
