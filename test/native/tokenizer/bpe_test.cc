#include <doctest/doctest.h>

#include "core/error.h"
#include "tokenizer/fixtures.h"
#include "tokenizer/pretokenize.h"

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

TEST_CASE("without a known pre-tokenizer the default one is used, with a warning") {
  for (const char* name : {"", "my-own", "default"}) {
    VocabularySource source = bpe_source({"a1", "12"});
    source.pre_tokenizer = name;
    const auto tokenizer = Tokenizer::build(source);
    REQUIRE(tokenizer->warnings().size() == 1);
    CHECK(tokenizer->warnings()[0].find("default") != std::string::npos);
    CHECK(tokenizer->warnings()[0].find(name) != std::string::npos);
    CHECK(pieces_of(*tokenizer, "a12+") == "a|12|+");
  }
  CHECK(Tokenizer::build(bpe_source({}))->warnings().empty());
}

TEST_CASE("a pre-tokenizer that only other software knows is refused by name") {
  VocabularySource source = bpe_source({});
  source.pre_tokenizer = "kimi-k2";
  try {
    Tokenizer::build(source);
    FAIL("built");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported_model);
    CHECK(std::string(error.what()).find("\"kimi-k2\"") != std::string::npos);
  }
}

TEST_CASE("the pre-tokenizer says whether a piece that is a token skips merging, and whether BOS is added") {
  VocabularySource source = bpe_source({"ab", "bc", "abc"});
  source.merges = {"b c"};
  source.bos = 0;
  CHECK(pieces_of(*Tokenizer::build(source), "abc") == "abc");
  CHECK(Tokenizer::build(source)->adds_bos());
  source.pre_tokenizer = "dbrx";
  CHECK(pieces_of(*Tokenizer::build(source), "abc") == "a|bc");
  CHECK_FALSE(Tokenizer::build(source)->adds_bos());
  source.add_bos = true;
  CHECK(Tokenizer::build(source)->adds_bos());
}

TEST_CASE("every pre-tokenizer gives the ids of the reference") {
  std::mt19937 random(7);
  const std::vector<std::string> alphabet = {"a",        "b",    "B",  " ", " ",        "1",
                                             "2",        "\n",   "'s", "!", "\xC2\xBD", "\xE4\xB8\xAD",
                                             "\xCC\x81", "\x01", "_"};
  for (const PreTokenizerTraits& traits : known_pre_tokenizers()) {
    if (traits.expressions.back().starts_with("bytes:")) continue;
    VocabularySource source =
        bpe_source({"ab", "ba", " a", "  ", "12", "1 ", " 1", "!!", "aB", "\n\n", "\xC2\xBD"});
    source.pre_tokenizer = traits.names[0];
    const auto tokenizer = Tokenizer::build(source);
    for (int i = 0; i < 300; ++i) {
      const std::string text = random_text(random, alphabet, random() % 16);
      INFO(traits.names[0], ": ", text);
      REQUIRE(encode(*tokenizer, text) == reference_bpe(source, text));
    }
  }
}

TEST_CASE("a hundred kilobytes of one piece") {
  const auto tokenizer = Tokenizer::build(bpe_source({"aa", "aaaa", "  ", "    "}));
  CHECK(encode(*tokenizer, std::string(100000, 'a')).size() == 25000);
  CHECK(encode(*tokenizer, std::string(100000, ' ')).size() == 25000);
}
