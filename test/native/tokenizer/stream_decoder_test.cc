#include "tokenizer/stream_decoder.h"

#include <doctest/doctest.h>

#include <random>

#include "tokenizer/fixtures.h"
#include "tokenizer/unicode.h"

using namespace cria;
using namespace cria::test;

namespace {

/// Streams `ids`, checking that every chunk is whole characters.
std::string stream(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<TokenId>& ids,
                   bool special, bool at_start) {
  StreamDecoder decoder(tokenizer, special, at_start);
  std::string text;
  for (TokenId id : ids) {
    const std::string chunk = decoder.push(id);
    CHECK(is_well_formed_utf8(chunk));
    text += chunk;
  }
  const std::string rest = decoder.finish();
  CHECK((rest.empty() || rest == kReplacementCharacter));
  CHECK(decoder.finish().empty());
  return text + rest;
}

}  // namespace

TEST_CASE("characters are never split") {
  const auto tokenizer = Tokenizer::build(bpe_source({}));
  StreamDecoder decoder(tokenizer, false, true);
  CHECK(decoder.push(0xF0).empty());
  CHECK(decoder.push(0x9F).empty());
  CHECK(decoder.push(0x99).empty());
  CHECK(decoder.push(0x82) == "\xF0\x9F\x99\x82");
  CHECK(decoder.push('a') == "a");
  CHECK(decoder.push(0xE4).empty());
  // This byte makes the sequence ill-formed.
  CHECK(decoder.push('a') == std::string(kReplacementCharacter) + "a");
  CHECK(decoder.push(0xFF) == kReplacementCharacter);
  CHECK(decoder.push(0xE4).empty());
  CHECK(decoder.finish() == kReplacementCharacter);
}

TEST_CASE("SentencePiece's dummy prefix is dropped only at the start") {
  VocabularySource source = spm_source({"_a", "a", "_", "__"});
  const auto tokenizer = Tokenizer::build(source);
  const TokenId space_a = 259, space = 261, spaces = 262;
  CHECK(stream(tokenizer, {space_a, space_a}, false, true) == "a a");
  CHECK(stream(tokenizer, {space_a, space_a}, false, false) == " a a");
  CHECK(stream(tokenizer, {1, space_a}, false, true) == "a");
  CHECK(stream(tokenizer, {1, space_a}, true, true) == "<s>a");
  CHECK(stream(tokenizer, {space, space}, false, true) == " ");
  CHECK(stream(tokenizer, {spaces}, false, true) == " ");
  CHECK(stream(tokenizer, {3 + ' ', space}, false, true) == "  ");  // a byte token is never the prefix
  CHECK(stream(tokenizer, {}, false, true).empty());
}

TEST_CASE("random ids give the same text streamed and at once") {
  VocabularySource spm = spm_source({"_a", "a", "_", "\xC3\xA9"});
  add_control(spm, "<u>", TokenType::user_defined);
  VocabularySource bpe = bpe_source({"\xE4\xB8", "\xAD\xE4", "\xF0\x9F", " a", "\x99\x82!"});
  add_control(bpe, "<|x|>");
  std::mt19937 random(3);
  for (const auto& tokenizer : {Tokenizer::build(spm), Tokenizer::build(bpe)}) {
    for (int i = 0; i < 3000; ++i) {
      std::vector<TokenId> ids;
      for (std::size_t n = random() % 12; n > 0; --n) {
        // Mostly bytes above ASCII.
        ids.push_back(random() % 4 ? 128 + static_cast<TokenId>(random() % (tokenizer->vocab_size() - 128))
                                   : static_cast<TokenId>(random() % tokenizer->vocab_size()));
      }
      for (bool special : {false, true}) {
        std::string bytes;
        for (TokenId id : ids) bytes += tokenizer->token_bytes(id, special);
        const std::string text = tokenizer->decode(ids, special);
        REQUIRE(stream(tokenizer, ids, special, true) == text);
        if (tokenizer->kind() == TokenizerKind::bpe) REQUIRE(text == to_well_formed(bytes));
      }
    }
  }
}
