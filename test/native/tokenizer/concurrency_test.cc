#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("many threads use one tokenizer") {
  const std::vector<std::string> alphabet = {"a", "b", "c", " ", "\xC3\xA9", "1", "\n"};
  for (const auto& tokenizer : {Tokenizer::build(spm_source({"_a", "ab", "abc", "a", "b", "c", "_"})),
                                Tokenizer::build(bpe_source({"ab", "bc", " a", "abc"}))}) {
    std::vector<std::string> texts;
    std::vector<std::vector<TokenId>> expected;
    std::mt19937 random(4);
    for (int i = 0; i < 200; ++i) {
      texts.push_back(random_text(random, alphabet, random() % 200));
      expected.push_back(encode(*tokenizer, texts.back()));
    }
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < texts.size(); ++i) {
          const std::size_t at = (i * 7 + t * 31) % texts.size();
          if (encode(*tokenizer, texts[at]) != expected[at]) ++wrong;
          if (tokenizer->decode(expected[at], false) != texts[at]) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("a raised flag ends a call of encode, and the tokenizer still works") {
  const auto spm = Tokenizer::build(spm_source({"aa", "a", "_"}));
  const auto bpe = Tokenizer::build(bpe_source({"aa"}));
  for (const auto& tokenizer : {spm, bpe}) {
    CancelFlag raised;
    raised.cancel();
    CHECK_THROWS_AS(tokenizer->encode("a", {}, &raised), Error);
    // One huge word, and many small ones: both check the flag in between.
    for (const std::string& unit : {std::string("a"), std::string("a ")}) {
      std::string text;
      while (text.size() < 8000000) text += unit;
      CancelFlag flag;
      std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        flag.cancel();
      });
      try {
        tokenizer->encode(text, {}, &flag);
        FAIL_CHECK("was not cancelled");
      } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::aborted);
      }
      later.join();
    }
    CHECK(tokenizer->decode(encode(*tokenizer, "a aa"), false) == "a aa");
  }
}
