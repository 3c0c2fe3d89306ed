#include "tokenizer/pretokenize.h"

#include <doctest/doctest.h>

#include <chrono>
#include <random>

#include "core/error.h"
#include "tokenizer/fixtures.h"
#include "tokenizer/regex.h"

using namespace cria;
using namespace cria::test;

namespace {

using Pieces = std::vector<std::string>;

Pieces split(const PreTokenizer& pre_tokenizer, std::string_view text) {
  Pieces pieces;
  const auto take = [&](std::string_view piece) { pieces.emplace_back(piece); };
  if (!text.empty()) pre_tokenizer.split(text, take);
  return pieces;
}

Pieces split(std::string_view name, std::string_view text) {
  const PreTokenizerTraits* traits = find_pre_tokenizer(name);
  REQUIRE(traits);
  return split(PreTokenizer(traits->expressions), text);
}

/// Characters at which the expressions tell texts apart.
const std::vector<std::string> kAlphabet = {"a",
                                            "S",
                                            "t",
                                            "re",
                                            "LL",
                                            "'",
                                            "'",
                                            "\xC5\xBF",
                                            "\xC3\xA9",
                                            "1",
                                            "2",
                                            "3",
                                            "\xC2\xBD",
                                            "\xD9\xA3",
                                            "\xE2\x85\xA7",
                                            " ",
                                            " ",
                                            " ",
                                            "\n",
                                            "\r",
                                            "\t",
                                            "\v",
                                            "!",
                                            "_",
                                            "/",
                                            "$",
                                            "`",
                                            "|",
                                            "(",
                                            ".",
                                            "\xCC\x81",
                                            "\xCC\x81",
                                            "\xC2\xA0",
                                            "v",
                                            "m",
                                            "d",
                                            "\xE2\x80\x8B",
                                            "\xE3\x80\x80",
                                            "\xF0\x9F\x99\x82",
                                            "\xE4\xB8\xAD",
                                            "\xE4\xB8\xAD",
                                            "\xE3\x81\x82",
                                            "\xE0\xA4\x95",
                                            "\xE0\xA5\x8D",
                                            "\xC7\x85",
                                            "\xCA\xB0",
                                            "\xD0\x96",
                                            "\xD0\xB6",
                                            "\xEF\xBC\x81",
                                            "\xEF\xBC\xA1",
                                            "\xE2\x80\x98",
                                            "\xE3\x80\x82",
                                            "\x01",
                                            "\xE1\x83\x90",
                                            "\xEA\xB0\x80",
                                            "\xC3\x97"};

/// Expressions of GPT-2's byte alphabet are not regular expressions of the text.
bool is_expression(std::string_view expression) { return !expression.starts_with("bytes:"); }

}  // namespace

TEST_CASE("each alternative of Llama 3's expression") {
  const auto llama3 = [](std::string_view text) { return split("llama-bpe", text); };
  CHECK(llama3("I'm they'LL x'd o'clock") == Pieces{"I", "'m", " they", "'LL", " x", "'d", " o", "'clock"});
  CHECK(llama3("it'\xC5\xBFo") == Pieces{"it", "'\xC5\xBF", "o"});  // the long s is an s under case folding
  CHECK(llama3("'re're'") == Pieces{"'re", "'re", "'"});
  CHECK(llama3("(abc \xC3\xA9t\xC3\xA9\tx\nx") == Pieces{"(abc", " \xC3\xA9t\xC3\xA9", "\tx", "\n", "x"});
  CHECK(llama3("12345 678") == Pieces{"123", "45", " ", "678"});
  CHECK(llama3("a !?\r\n\n b") == Pieces{"a", " !?\r\n\n", " b"});
  CHECK(llama3("a  \n \n  b") == Pieces{"a", "  \n \n", " ", " b"});
  CHECK(llama3("a   b") == Pieces{"a", "  ", " b"});
  CHECK(llama3("a   ") == Pieces{"a", "   "});
  CHECK(llama3("  1") == Pieces{" ", " ", "1"});
  CHECK(llama3(" ") == Pieces{" "});
  CHECK(llama3("\xC2\xA0\xC2\xA0!") == Pieces{"\xC2\xA0", "\xC2\xA0", "!"});  // only U+0020 may begin symbols
  CHECK(llama3("\xC2\xA0x") == Pieces{"\xC2\xA0x"});
}

TEST_CASE("what sets the others apart") {
  CHECK(split("gpt-2", "I'LL 12345  x") == Pieces{"I", "'", "LL", " 12345", " ", " x"});
  CHECK(split("smollm", "a 12") == Pieces{"a", " ", "1", "2"});
  CHECK(split("qwen2", "123") == Pieces{"1", "2", "3"});
  CHECK(split("qwen35", "\xE0\xA4\x95\xE0\xA5\x8D") == Pieces{"\xE0\xA4\x95\xE0\xA5\x8D"});
  CHECK(split("qwen2", "\xE0\xA4\x95\xE0\xA5\x8D") == Pieces{"\xE0\xA4\x95", "\xE0\xA5\x8D"});
  CHECK(split("tekken", "HelloWorld it's") == Pieces{"Hello", "World", " it", "'s"});
  CHECK(split("gpt-4o", "HelloWorld it's") == Pieces{"Hello", "World", " it's"});
  CHECK(split("superbpe", "a 1234567b") == Pieces{"a ", "1", "234", "567", "b"});
  CHECK(split("seed-coder", "!\n") == Pieces{"!", "\n"});
  CHECK(split("falcon", "a 1234<=b") == Pieces{"a", " ", "123", "4", "<=", "b"});
  // Falcon's pipeline finds the digits in GPT-2's byte alphabet, where U+00BD's second byte is a fraction.
  CHECK(split("falcon", "\xC2\xBD") == Pieces{"\xC2", "\xBD"});
  CHECK(split("minicpm5", "  1") == Pieces{"  ", "1"});
  CHECK(split("viking", "(a b)") == Pieces{"(", "a", " b", ")"});
}

TEST_CASE("every expression splits random text as its literal meaning does") {
  std::mt19937 random(2);
  for (const PreTokenizerTraits& traits : known_pre_tokenizers()) {
    for (const std::string_view expression : traits.expressions) {
      if (!is_expression(expression)) continue;
      INFO(traits.names[0], ": ", expression);
      const Regex regex(expression);
      const PreTokenizer step(std::span(&expression, 1));
      for (int i = 0; i < 2500; ++i) {
        const std::string text = random_text(random, kAlphabet, random() % 14);
        INFO(text);
        REQUIRE(split(step, text) == regex.split(text));
      }
    }
  }
}

TEST_CASE("steps apply one after the other, each to the pieces of the one before") {
  std::mt19937 random(3);
  for (const PreTokenizerTraits& traits : known_pre_tokenizers()) {
    const PreTokenizer pre_tokenizer(traits.expressions);
    const bool has_bytes = !is_expression(traits.expressions.back());
    for (int i = 0; i < 300; ++i) {
      const std::string text = random_text(random, kAlphabet, random() % 20);
      INFO(traits.names[0], ": ", text);
      Pieces expected;
      if (!text.empty()) expected.push_back(text);
      for (const std::string_view expression : traits.expressions) {
        Pieces next;
        for (const std::string& piece : expected)
          for (std::string& part : split(PreTokenizer(std::span(&expression, 1)), piece))
            next.push_back(std::move(part));
        expected = std::move(next);
      }
      const Pieces found = split(pre_tokenizer, text);
      CHECK(found == expected);
      std::string whole;
      for (const std::string& piece : found) {
        REQUIRE(!piece.empty());
        if (!has_bytes) REQUIRE(is_well_formed_utf8(piece));
        whole += piece;
      }
      CHECK(whole == text);
    }
  }
}

TEST_CASE("no text is quadratic") {
  const auto repeat = [](std::string_view unit) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    return text;
  };
  const std::string texts[] = {repeat("a"),         repeat("A"),
                               repeat(" "),         repeat("7"),
                               repeat("\n"),        repeat("\xCC\x81"),
                               repeat("\xC2\xBD"),  repeat("\xE3\x80\x80"),
                               repeat("A\xCC\x81"), repeat("\t!"),
                               repeat("'"),         repeat(" \n\t") + "x",
                               repeat(" ") + "x",   "\xE4\xB8\xAD" + repeat("A"),
                               repeat("\x01"),      repeat("|")};
  for (const PreTokenizerTraits& traits : known_pre_tokenizers()) {
    const PreTokenizer pre_tokenizer(traits.expressions);
    for (const std::string& text : texts) {
      INFO(traits.names[0], ": ", text.substr(0, 4));
      const auto begin = std::chrono::steady_clock::now();
      std::size_t bytes = 0;
      const auto take = [&](std::string_view piece) { bytes += piece.size(); };
      pre_tokenizer.split(text, take);
      CHECK(bytes == text.size());
      // Some milliseconds; a quadratic one takes minutes.
      CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
    }
  }
}

TEST_CASE("names of pre-tokenizers") {
  for (const char* name :
       {"gpt-2",          "smollm",      "starcoder",  "refact",    "falcon",   "falcon3",   "deepseek-llm",
        "deepseek-coder", "deepseek-v3", "tekken",     "pixtral",   "midm-2.0", "smaug-bpe", "dbrx",
        "trillion",       "minerva-7b",  "seed-coder", "viking",    "superbpe", "qwen2",     "qwen35",
        "llama4",         "gpt-4o",      "default",    "llama-bpe", "llama3",   "llama-v3"}) {
    CHECK_MESSAGE(find_pre_tokenizer(name), name);
    CHECK_FALSE(is_foreign_pre_tokenizer(name));
  }
  CHECK_FALSE(find_pre_tokenizer(""));
  CHECK_FALSE(find_pre_tokenizer("LLAMA-BPE"));
  CHECK(find_pre_tokenizer("llama-bpe")->whole_pieces);
  CHECK_FALSE(find_pre_tokenizer("dbrx")->whole_pieces);
  CHECK_FALSE(find_pre_tokenizer("smaug-bpe")->whole_pieces);
  CHECK(is_foreign_pre_tokenizer("kimi-k2"));
}

TEST_CASE("an unknown expression is refused by its text") {
  const std::string_view unknown[] = {"\\p{N}", "[a-z]+(?<=x)"};
  try {
    const PreTokenizer pre_tokenizer(unknown);
    FAIL_CHECK("built");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported_model);
    CHECK(std::string(error.what()).find("[a-z]+(?<=x)") != std::string::npos);
  }
}
