#include "tokenizer/special_tokens.h"

#include <doctest/doctest.h>

#include "tokenizer/fixtures.h"
#include "tokenizer/stream_decoder.h"

using namespace cria;
using namespace cria::test;

namespace {

using Ids = std::vector<TokenId>;

/// 256 "hi", 257 <|a|>, 258 <|ab|>, 259 <|a|><|b|>, 260 [user].
std::shared_ptr<const Tokenizer> bpe_with_specials() {
  VocabularySource source = bpe_source({"hi"});
  for (const char* control : {"<|a|>", "<|ab|>", "<|a|><|b|>"}) add_control(source, control);
  add_control(source, "[user]", TokenType::user_defined);
  source.bos = 257;
  source.eos = 258;
  return Tokenizer::build(source);
}

}  // namespace

TEST_CASE("the matcher finds the leftmost, then the longest") {
  const std::vector<std::pair<std::string_view, TokenId>> spellings = {
      {"bc", 1}, {"bcd", 2}, {"abx", 3}, {"", 4}, {"bc", 5}, {std::string_view("\0\xFF", 2), 6}};
  const SpellingMatcher matcher(spellings);
  const auto found = [&](std::string_view text, std::size_t from = 0) {
    const auto m = matcher.find(text, from);
    return std::tuple(m.begin, m.length, m.length ? m.id : 0);
  };
  CHECK(found("abcd") == std::tuple(1, 3, 2));
  CHECK(found("abc") == std::tuple(1, 2, 1));
  CHECK(found("ab") == std::tuple(2, 0, 0));
  CHECK(found("abxbc") == std::tuple(0, 3, 3));
  CHECK(found("abxbc", 1) == std::tuple(3, 2, 1));
  CHECK(found(std::string_view("a\0\xFF", 3)) == std::tuple(1, 2, 6));
  CHECK(found("") == std::tuple(0, 0, 0));
  CHECK(SpellingMatcher().empty());
  CHECK(SpellingMatcher({{"", 1}}).find("abc", 0).length == 0);
}

TEST_CASE("spellings in text are text by default") {
  const auto tokenizer = bpe_with_specials();
  const std::string text = "hi<|a|>hi<|ab|><|a|><|b|>[user]";
  for (TokenId id : encode(*tokenizer, text)) CHECK(id < 257);
  CHECK(tokenizer->decode(encode(*tokenizer, text), false) == text);
  CHECK(encode(*tokenizer, text, true) == Ids{256, 257, 256, 258, 259, 260});
  CHECK(tokenizer->decode(encode(*tokenizer, text, true), true) == text);
  CHECK(tokenizer->decode(encode(*tokenizer, text, true), false) == "hihi[user]");
}

TEST_CASE("parts of spellings stay text") {
  const auto tokenizer = bpe_with_specials();
  for (const char* text : {"<|a", "<|", "<", "<|a|", "<|<|a|"}) {
    CHECK(encode(*tokenizer, text, true) == encode(*tokenizer, text));
  }
  CHECK(encode(*tokenizer, "<|<|a|>|>", true) == Ids{'<', '|', 257, '|', '>'});
}

TEST_CASE("BOS and EOS are added on request") {
  const auto tokenizer = bpe_with_specials();
  CHECK(tokenizer->encode("hi", {}) == Ids{257, 256});
  CHECK(tokenizer->encode("hi", {.bos = false}) == Ids{256});
  CHECK(tokenizer->encode("hi", {.bos = true, .eos = true}) == Ids{257, 256, 258});
  CHECK(tokenizer->encode("", {}) == Ids{257});
  CHECK(tokenizer->encode("<|a|>", {.special = true}) == Ids{257, 257});
  const auto without = Tokenizer::build(bpe_source({}));
  CHECK(without->encode("a", {}) == Ids{'a'});
  CHECK_THROWS_WITH(without->encode("a", {.bos = true}), "the vocabulary has no BOS token");
  CHECK_THROWS_WITH(without->encode("a", {.eos = true}), "the vocabulary has no EOS token");
}

TEST_CASE("SentencePiece: every part between control tokens gets a dummy prefix") {
  VocabularySource source = spm_source({"_a", "a", "_"});
  add_control(source, "<u>", TokenType::user_defined);
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "a<s>a</s>", true) == "_a|<s>|_a|</s>");
  CHECK(pieces_of(*tokenizer, "<s> a", true) == "<s>|_|_a");
  // User-defined pieces do not divide the text.
  CHECK(pieces_of(*tokenizer, "<u>a<s>", true) == "_|<u>|a|<s>");
  CHECK(pieces_of(*tokenizer, "<u>a", false) == "_|<u>|a");
  for (const char* text : {"a<s>a</s>", "<s> a", "<s><s>a ", " <u> a", "<s>"}) {
    CHECK(tokenizer->decode(encode(*tokenizer, text, true), true) == text);
    CHECK(tokenizer->decode(encode(*tokenizer, text), false) == text);
  }
  CHECK(tokenizer->decode(encode(*tokenizer, "a<s>a", true), false) == "a a");  // like SentencePiece
}

TEST_CASE("many spellings with a common prefix") {
  VocabularySource source = bpe_source({});
  for (int i = 0; i < 3000; ++i) add_control(source, "<|reserved_special_token_" + std::to_string(i) + "|>");
  const auto tokenizer = Tokenizer::build(source);
  std::string text;
  Ids expected;
  for (int i = 2999; i >= 0; i -= 7) {
    text += "<|reserved_special_token_" + std::to_string(i) + "|>x";
    expected.insert(expected.end(), {256 + static_cast<TokenId>(i), 'x'});
  }
  CHECK(encode(*tokenizer, text, true) == expected);
}

TEST_CASE("a text in pieces is one text, but special tokens count only in special pieces") {
  const auto tokenizer = bpe_with_specials();
  const auto of = [&](std::initializer_list<TextPiece> pieces) {
    return tokenizer->encode(std::span<const TextPiece>(pieces.begin(), pieces.size()), {.bos = false});
  };
  CHECK(of({}).empty());
  CHECK(of({{"h"}, {""}, {"i"}}) == Ids{256});
  CHECK(of({{"<|a|>", true}, {"<|a|>"}, {"hi", true}}) == Ids{257, '<', '|', 'a', '|', '>', 256});
  CHECK(of({{"<|", true}, {"", false}, {"a|>", true}}) == Ids{257});             // one special run
  CHECK(of({{"<|", true}, {"a|>"}}) == Ids{'<', '|', 'a', '|', '>'});            // not across the boundary
  CHECK(of({{"<|a|>", true}, {"<|b|>"}}) == Ids{257, '<', '|', 'b', '|', '>'});  // nor a longer match
  // Each piece is made well-formed.
  CHECK(of({{"\xE4\xB8"}, {"\xAD"}}) == encode(*tokenizer, "\xEF\xBF\xBD\xEF\xBF\xBD"));

  const auto spm = Tokenizer::build(spm_source({"_a", "ab", "a", "b", "_"}));
  const std::vector<TextPiece> pieces = {{"<s>", true}, {"a"}, {"b", true}, {"<s>"}};
  CHECK(spm->encode(pieces, {.bos = false}) == [&] {
    Ids ids = {1};
    for (TokenId id : encode(*spm, "ab<s>")) ids.push_back(id);
    return ids;
  }());
}
