// From sampled tokens to text, stop strings and ends.
#include "engine/sequence.h"

#include <doctest/doctest.h>

#include <set>

#include "engine/demo_model.h"

using namespace cria;
using namespace cria::test;

namespace {

std::shared_ptr<const Tokenizer> tokenizer() {
  static const auto t = load_tokenizer(kDemoModel);
  return t;
}

std::vector<TokenId> encode(const std::string& text) {
  EncodeOptions options;
  options.bos = false;
  return tokenizer()->encode(text, options);
}

struct Outcome {
  std::string text;
  std::vector<TokenId> tokens;
  std::optional<EndEvent> end;
};

// Feeds the tokens of `text` (and then `last`) as if the model had sampled them.
Outcome feed(GenerateRequest request, const std::string& text, std::optional<TokenId> last = {},
             std::int32_t context_length = 10'000) {
  request.starts_text = true;
  Sequence sequence(1, std::move(request), {1}, tokenizer(), context_length, Clock::now());
  Outcome outcome;
  const auto collect = [&](std::vector<Event>& events) {
    for (Event& e : events) {
      const ChunkEvent& chunk = std::get<ChunkEvent>(e);
      outcome.text += chunk.text;
      outcome.tokens.insert(outcome.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    }
    events.clear();
  };
  std::vector<TokenId> ids = encode(text);
  if (last) ids.push_back(*last);
  std::vector<Event> events;
  for (const TokenId id : ids) {
    SampledToken token;
    token.id = id;
    outcome.end = sequence.accept(token, events);
    collect(events);
    if (outcome.end) return outcome;
  }
  outcome.end = sequence.finish(FinishReason::abort, events);
  collect(events);
  return outcome;
}

}  // namespace

TEST_CASE("text and tokens arrive whole, even characters of several tokens") {
  const std::string text = "Tim \xf0\x9f\xa6\x99 saw \xe4\xbd\xa0\xe5\xa5\xbd. The end";
  const Outcome outcome = feed({}, text);
  CHECK(outcome.text == text);
  CHECK(outcome.tokens == encode(text));
  CHECK(outcome.end->reason == FinishReason::abort);
  CHECK(outcome.end->usage.generated_tokens == static_cast<std::int32_t>(outcome.tokens.size()));
}

TEST_CASE("an end token ends it and is not part of the answer") {
  const TokenId eos = *tokenizer()->eos();
  const Outcome outcome = feed({}, "The end.", eos);
  CHECK(outcome.end->reason == FinishReason::stop);
  CHECK(outcome.text == "The end.");
  CHECK(outcome.tokens == encode("The end."));
  GenerateRequest ignore;
  ignore.ignore_eos = true;
  CHECK(feed(ignore, "The end.", eos).end->reason == FinishReason::abort);
  GenerateRequest stop_token;
  stop_token.stop_tokens = {encode("The end.").back()};
  CHECK(feed(stop_token, "The end. And more").end->reason == FinishReason::stop);
}

TEST_CASE(
    "a stop string is cut out wherever the tokens' borders are, and what only looked like one is kept") {
  const std::string text = "one two three four five";
  for (const std::string stop : {"two", " thr", "e f", "five", "o", "ne two three fou"}) {
    CAPTURE(stop);
    GenerateRequest request;
    request.stop = {"never", stop};
    const Outcome outcome = feed(request, text);
    CHECK(outcome.end->reason == FinishReason::stop_string);
    CHECK(outcome.end->stop_string == stop);
    CHECK(outcome.text == text.substr(0, text.find(stop)));
  }
  GenerateRequest almost;
  almost.stop = {"five six", "threefold", "four five!"};
  const Outcome outcome = feed(almost, text);
  CHECK(outcome.end->reason == FinishReason::abort);
  CHECK(outcome.text == text);
}

TEST_CASE("of two stop strings the first match counts") {
  GenerateRequest request;
  request.stop = {"three", "two"};
  CHECK(feed(request, "one two three").end->stop_string == "two");
}

TEST_CASE("limits: max_tokens and the context") {
  GenerateRequest request;
  request.max_tokens = 3;
  const Outcome limited = feed(request, "one two three four five six");
  CHECK(limited.end->reason == FinishReason::length);
  CHECK(limited.tokens.size() == 3);
  const Outcome full = feed({}, "one two three four five six", {}, 5);
  CHECK(full.end->reason == FinishReason::context);
  CHECK(full.tokens.size() == 4);  // the prompt's one token and four more
}
