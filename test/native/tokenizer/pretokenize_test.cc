#include "tokenizer/pretokenize.h"

#include <doctest/doctest.h>

#include <random>

#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> pieces;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const char* piece_end = llama3_piece_end(p, end);
    pieces.emplace_back(p, piece_end);
    p = piece_end;
  }
  return pieces;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("each alternative of the pattern") {
  CHECK(split("I'm they'LL x'd o'clock") == Pieces{"I", "'m", " they", "'LL", " x", "'d", " o", "'clock"});
  CHECK(split("it'\xC5\xBFo") == Pieces{"it", "'\xC5\xBF", "o"});  // the long s is an s under case folding
  CHECK(split("'re're'") == Pieces{"'re", "'re", "'"});
  CHECK(split("(abc \xC3\xA9t\xC3\xA9\tx\nx") == Pieces{"(abc", " \xC3\xA9t\xC3\xA9", "\tx", "\n", "x"});
  CHECK(split("12345 678") == Pieces{"123", "45", " ", "678"});
  CHECK(split("a !?\r\n\n b") == Pieces{"a", " !?\r\n\n", " b"});
  CHECK(split("a  \n \n  b") == Pieces{"a", "  \n \n", " ", " b"});
  CHECK(split("a   b") == Pieces{"a", "  ", " b"});
  CHECK(split("a   ") == Pieces{"a", "   "});
  CHECK(split("  1") == Pieces{" ", " ", "1"});
  CHECK(split(" ") == Pieces{" "});
  CHECK(split("\xC2\xA0\xC2\xA0!") == Pieces{"\xC2\xA0", "\xC2\xA0", "!"});  // only U+0020 may begin symbols
  CHECK(split("\xC2\xA0x") == Pieces{"\xC2\xA0x"});
}

TEST_CASE("random text is split as the pattern says") {
  const std::vector<std::string> alphabet = {"a",
                                             "S",
                                             "t",
                                             "re",
                                             "LL",
                                             "'",
                                             "'",
                                             "\xC5\xBF",
                                             "\xC3\xA9",
                                             "\xE4\xB8\xAD",
                                             "1",
                                             "\xC2\xBD",
                                             " ",
                                             " ",
                                             " ",
                                             "\n",
                                             "\r",
                                             "\t",
                                             "\v",
                                             "!",
                                             "_",
                                             "\xCC\x81",
                                             "\xC2\xA0",
                                             "\xE2\x80\x8B",
                                             "\xE3\x80\x80",
                                             "\xF0\x9F\x99\x82",
                                             "v",
                                             "m",
                                             "d"};
  std::mt19937 random(2);
  for (int i = 0; i < 30000; ++i) {
    const std::string text = random_text(random, alphabet, random() % 14);
    INFO(text);
    REQUIRE(split(text) == reference_split(text));
  }
}

TEST_CASE("names of the splitter") {
  CHECK(is_llama3_splitter("llama-bpe"));
  CHECK(is_llama3_splitter("llama3"));
  CHECK(is_llama3_splitter("llama-v3"));
  CHECK_FALSE(is_llama3_splitter("gpt-2"));
  CHECK_FALSE(is_llama3_splitter(""));
}
