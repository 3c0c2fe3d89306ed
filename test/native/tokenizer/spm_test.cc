#include <doctest/doctest.h>

#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("a dummy prefix comes before the text") {
  const auto tokenizer = Tokenizer::build(spm_source({"_a", "a", "b", "_"}));
  CHECK(tokenizer->adds_space_prefix());
  CHECK(pieces_of(*tokenizer, "a") == "_a");
  CHECK(pieces_of(*tokenizer, " a") == "_|_a");
  CHECK(pieces_of(*tokenizer, "b a") == "_|b|_a");
  CHECK(encode(*tokenizer, "").empty());
}

TEST_CASE("no dummy prefix without add_space_prefix") {
  VocabularySource source = spm_source({"_a", "a", "_"});
  source.add_space_prefix = false;
  const auto tokenizer = Tokenizer::build(source);
  CHECK_FALSE(tokenizer->adds_space_prefix());
  CHECK(pieces_of(*tokenizer, "a a") == "a|_a");
  CHECK(tokenizer->decode(encode(*tokenizer, " a"), false) == " a");
}

TEST_CASE("higher scores merge first, equal scores from the left") {
  CHECK(pieces_of(*Tokenizer::build(spm_source({"bc", "ab", "a", "b", "c", "_"})), "abc") == "_|a|bc");
  CHECK(pieces_of(*Tokenizer::build(spm_source({"ab", "bc", "a", "b", "c", "_"})), "abc") == "_|ab|c");
  CHECK(pieces_of(*Tokenizer::build(spm_source({"aa", "a", "_"})), "aaaaa") == "_|aa|aa|a");
  VocabularySource equal = spm_source({"a", "b", "c", "_"});
  add_token(equal, "bc", -9);
  add_token(equal, "ab", -9);
  CHECK(pieces_of(*Tokenizer::build(equal), "abc") == "_|ab|c");
}

TEST_CASE("merging stops where no intermediate piece exists") {
  CHECK(pieces_of(*Tokenizer::build(spm_source({"abc", "a", "b", "c", "_"})), "abc") == "_|a|b|c");
}

TEST_CASE("white space is kept, and merges where pieces allow it") {
  const auto tokenizer = Tokenizer::build(spm_source({"__", "_a", "____", "a", "_"}));
  CHECK(pieces_of(*tokenizer, "a") == "_a");
  CHECK(pieces_of(*tokenizer, "   a") == "____|a");
  CHECK(pieces_of(*tokenizer, "a  ") == "_a|__");
  for (const char* text : {" ", "  a  a   ", "a\n a", "\t"})
    CHECK(tokenizer->decode(encode(*tokenizer, text), false) == text);
}

TEST_CASE("U+2581 in the text is a space for the model") {
  const auto tokenizer = Tokenizer::build(spm_source({"_a", "a", "_"}));
  CHECK(encode(*tokenizer,
               "a\xE2\x96\x81"
               "a") == encode(*tokenizer, "a a"));
}

TEST_CASE("pieces that continue after a space join words") {
  const auto tokenizer = Tokenizer::build(spm_source({"a_", "a_b", "_", "a", "b"}));
  CHECK(pieces_of(*tokenizer, "a b") == "_|a_b");
}

TEST_CASE("characters without a piece become byte tokens") {
  const auto tokenizer = Tokenizer::build(spm_source({"_", "a", "\xC3\xA9"}));
  CHECK(pieces_of(*tokenizer, "\xC3\xA9") == "_|\xC3\xA9");
  CHECK(pieces_of(*tokenizer, "\xE4\xB8\xAD") == "_|<0xE4>|<0xB8>|<0xAD>");
  CHECK(pieces_of(*tokenizer, std::string_view("a\0a", 3)) == "_|a|<0x00>|a");
  CHECK(pieces_of(*tokenizer, "a\xFF") == "_|a|<0xEF>|<0xBF>|<0xBD>");
}

TEST_CASE("characters without a piece may merge into one") {
  CHECK(pieces_of(*Tokenizer::build(spm_source({"_", "xy", "a"})), "xyx") == "_|xy|<0x78>");
}

TEST_CASE("digits are separate when the vocabulary separates them") {
  CHECK(pieces_of(*Tokenizer::build(spm_source({"_", "1", "2"})), "1212") == "_|1|2|1|2");
  CHECK(pieces_of(*Tokenizer::build(spm_source({"_", "12", "1", "2"})), "1212") == "_|12|12");
}

TEST_CASE("user-defined pieces are matched first, the longest at each position, and never merge") {
  VocabularySource source = spm_source({"_", "ab", "bc", "a", "b", "c"});
  add_token(source, "bc", 0, TokenType::user_defined);
  source.tokens[261] = "xx";  // "bc" is user-defined
  add_token(source, "bca", 0, TokenType::user_defined);
  add_token(source, piece("__"), 0, TokenType::user_defined);
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "abc") == "_|a|bc");
  CHECK(pieces_of(*tokenizer, "abcab") == "_|a|bca|b");
  CHECK(pieces_of(*tokenizer, " a") == "__|a");  // together with the dummy prefix
  CHECK(pieces_of(*tokenizer, "a   a") == "_|a|__|_|a");
  CHECK(tokenizer->decode(encode(*tokenizer, " a   bca"), false) == " a   bca");
}

TEST_CASE("unused pieces take part in merging but are not produced") {
  VocabularySource source = spm_source({"_", "a", "b", "c", "abc"});
  add_token(source, "ab", 0, TokenType::unused);
  add_token(source, "d", 0, TokenType::unused);
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "ab") == "_|a|b");
  CHECK(pieces_of(*tokenizer, "abc") == "_|abc");
  CHECK(pieces_of(*tokenizer, "d") == "_|<0x64>");
}

TEST_CASE("a hundred kilobytes of one word") {
  const auto tokenizer = Tokenizer::build(spm_source({"aa", "aaaa", "aaaaaaaa", "a", "_"}));
  CHECK(encode(*tokenizer, std::string(100000, 'a')).size() == 12501);
  CHECK(encode(*tokenizer, std::string(100000, ' ')).size() == 100001);
}
