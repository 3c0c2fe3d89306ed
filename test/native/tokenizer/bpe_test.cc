#include <doctest/doctest.h>

#include "core/error.h"
#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

using Ids = std::vector<TokenId>;

}  // namespace

TEST_CASE("the lowest rank merges first, equal ranks from the left") {
  const auto tokenizer = Tokenizer::build(bpe_source({"bc", "ab", "aa"}));
  CHECK(encode(*tokenizer, "abc") == Ids{'a', 256});
  CHECK(encode(*tokenizer, "abab") == Ids{257, 257});
  CHECK(encode(*tokenizer, "aaaaa") == Ids{258, 258, 'a'});
}

TEST_CASE("a piece that is a token is taken whole, even if no merges lead to it") {
  const auto tokenizer = Tokenizer::build(bpe_source({"bc", "abcd", "ab"}));
  CHECK(encode(*tokenizer, "abcd") == Ids{257});
  CHECK(encode(*tokenizer, "abcdx") == Ids{'a', 256, 'd', 'x'});
}

TEST_CASE("the merges of one token share a rank") {
  // aaa = a+aa or aa+a. tiktoken ranks the union: of "aaa aa" the leftmost wins, for either order of the
  // merges.
  VocabularySource source = bpe_source({"aa", "aaa"});
  const Ids expected = encode(*Tokenizer::build(source), "aaaaa");
  source.merges = {"a a", "a aa", "aa a"};
  CHECK(encode(*Tokenizer::build(source), "aaaaa") == expected);
  source.merges = {"a a", "aa a", "a aa"};
  CHECK(encode(*Tokenizer::build(source), "aaaaa") == expected);
}

TEST_CASE("merges rank by their order, not by ids") {
  VocabularySource source = bpe_source({"bc", "ab"});
  source.merges = {"a b", "b c"};
  CHECK(encode(*Tokenizer::build(source), "abc!") == Ids{257, 'c', '!'});
}

TEST_CASE("only listed pairs merge") {
  VocabularySource source = bpe_source({"ab", "cd", "abcd"});
  source.merges = {"a b", "c d"};
  CHECK(encode(*Tokenizer::build(source), "abcdx") == Ids{256, 257, 'x'});
}

TEST_CASE("every byte is a token, in any text") {
  const auto tokenizer = Tokenizer::build(bpe_source({}));
  const std::string text = std::string("a\0\x7F", 3) + "\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x99\x82";
  Ids expected;
  for (char c : text) expected.push_back(static_cast<unsigned char>(c));
  CHECK(encode(*tokenizer, text) == expected);
  CHECK(tokenizer->decode(expected, false) == text);
  CHECK(encode(*tokenizer, "\xC3") == Ids{0xEF, 0xBF, 0xBD});
  CHECK(encode(*tokenizer, "").empty());
}

TEST_CASE("bad merges") {
  for (const char* merge :
       {"a", "a ", " a", "", "a zz", "zz a", "a b", "\xE2\x82\xAC a", "a b c", "a \xC4"}) {
    VocabularySource source = bpe_source({"bc"});
    source.merges = {"b c", merge};
    INFO(merge);
    try {
      Tokenizer::build(source);
      FAIL("built");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_model);
      CHECK(std::string(error.what()).find("merge 1") != std::string::npos);
    }
  }
}

TEST_CASE("an unknown splitter is named") {
  for (const char* name : {"qwen2", "", "default"}) {
    VocabularySource source = bpe_source({});
    source.pre_tokenizer = name;
    try {
      Tokenizer::build(source);
      FAIL("built");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::unsupported_model);
      CHECK(std::string(error.what()).find(name) != std::string::npos);
    }
  }
  VocabularySource spm = spm_source();
  spm.pre_tokenizer = "default";
  CHECK_NOTHROW(Tokenizer::build(spm));
}

TEST_CASE("a hundred kilobytes of one piece") {
  const auto tokenizer = Tokenizer::build(bpe_source({"aa", "aaaa", "  ", "    "}));
  CHECK(encode(*tokenizer, std::string(100000, 'a')).size() == 25000);
  CHECK(encode(*tokenizer, std::string(100000, ' ')).size() == 25000);
}
