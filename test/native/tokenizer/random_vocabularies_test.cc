// The encoders against the slow references, with random vocabularies and random texts.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

const std::vector<std::string> kAlphabet = {
    "a", "a", "a", "b", "b", "c", " ", " ", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x99\x82"};

/// Pieces over the alphabet. Some single characters have no piece, some scores are equal, some types are
/// special.
VocabularySource random_spm(std::mt19937& random, bool with_user_defined, bool with_unused,
                            bool joins_words) {
  VocabularySource source = spm_source();
  source.add_space_prefix = random() % 4 != 0;
  std::set<std::string> pieces;
  for (const std::string& c : kAlphabet) {
    if (random() % 4 != 0) pieces.insert(c);
  }
  for (int i = 0; i < 40; ++i) {
    std::string p = random_text(random, kAlphabet, 2 + random() % 4);
    const std::size_t word = std::min(p.find_first_not_of(' '), p.size());
    if (!joins_words) p = p.substr(0, p.find(' ', word));
    if (!p.empty()) pieces.insert(p);
  }
  for (const std::string& p : pieces) {
    TokenType type = TokenType::normal;
    if (with_user_defined && random() % 8 == 0) type = TokenType::user_defined;
    if (with_unused && random() % 5 == 0) type = TokenType::unused;
    add_token(source, replace_all(p, " ", kSpaceSymbol), -static_cast<float>(random() % 20), type);
  }
  return source;
}

void compare_spm(bool with_user_defined, bool with_unused, bool joins_words) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const VocabularySource source = random_spm(random, with_user_defined, with_unused, joins_words);
    const auto tokenizer = Tokenizer::build(source);
    const auto space = tokenizer->find(kSpaceSymbol);
    const bool has_space = space && tokenizer->type(*space) != TokenType::unused;
    for (int i = 0; i < 60; ++i) {
      // Lengths below and above the limits of the piece cache and of the scan.
      const std::string text = random_text(random, kAlphabet, 1 + random() % (i % 10 == 0 ? 120 : 20));
      INFO("round ", round, ", text: ", text);
      const std::vector<TokenId> ids = encode(*tokenizer, text);
      REQUIRE(ids == reference_spm(source, text));
      // Without a piece, U+2581 becomes three bytes, which SentencePiece does not decode as a space either.
      if (has_space) REQUIRE(tokenizer->decode(ids, false) == text);
    }
  }
}

/// Tokens grown by joining earlier ones, so that merges reach them.
VocabularySource random_bpe(std::mt19937& random, const std::vector<std::string>& alphabet) {
  std::vector<std::string> tokens;
  std::set<std::string> known;
  for (int i = 0; i < 60; ++i) {
    const auto part = [&] {
      return tokens.empty() || random() % 2 ? alphabet[random() % alphabet.size()]
                                            : tokens[random() % tokens.size()];
    };
    std::string token = part() + part();
    // May end within a character.
    if (random() % 6 == 0) token = token.substr(0, 1 + random() % token.size());
    if (token.size() > 1 && known.insert(token).second) tokens.push_back(token);
  }
  return bpe_source(tokens);
}

/// All the ways to split each token into two tokens, in the order of ids, as converters write them.
std::vector<std::string> all_merges(const VocabularySource& source) {
  const std::set<std::string> known(source.tokens.begin(), source.tokens.end());
  std::vector<std::string> merges;
  for (const std::string& token : source.tokens) {
    std::vector<std::string> ways;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const std::string left = token.substr(0, cut), right = token.substr(cut);
      if (known.count(left) && known.count(right)) ways.push_back(left + " " + right);
    }
    std::reverse(ways.begin(), ways.end());  // the order within a token must not matter
    merges.insert(merges.end(), ways.begin(), ways.end());
  }
  return merges;
}

}  // namespace

TEST_CASE("SentencePiece equals the definition") { compare_spm(false, false, false); }
TEST_CASE("SentencePiece equals the definition with pieces across words") { compare_spm(false, false, true); }
TEST_CASE("SentencePiece equals the definition with user-defined pieces") { compare_spm(true, false, true); }
TEST_CASE("SentencePiece equals the definition with unused pieces") { compare_spm(false, true, true); }
TEST_CASE("SentencePiece equals the definition with everything") { compare_spm(true, true, true); }

TEST_CASE("byte-level BPE equals the definition, from merges and from ranks") {
  std::mt19937 random(8);
  std::vector<std::string> alphabet = kAlphabet;
  for (const char* more : {"'s", "'", "1", "23", "\n", "\r\n", "!", "\xC2\xA0", "A"})
    alphabet.push_back(more);
  for (int round = 0; round < 80; ++round) {
    const VocabularySource ranked = random_bpe(random, alphabet);
    VocabularySource merged = ranked;
    merged.merges = all_merges(ranked);
    const auto from_ranks = Tokenizer::build(ranked);
    const auto from_merges = Tokenizer::build(merged);
    for (int i = 0; i < 60; ++i) {
      const std::string text = random_text(random, alphabet, 1 + random() % (i % 10 == 0 ? 150 : 20));
      INFO("round ", round, ", text: ", text);
      const std::vector<TokenId> expected = reference_bpe(ranked, text);
      REQUIRE(encode(*from_ranks, text) == expected);
      REQUIRE(encode(*from_merges, text) == expected);
      REQUIRE(from_ranks->decode(expected, false) == text);
    }
  }
}

TEST_CASE("long runs of few letters equal the definition") {
  std::mt19937 random(9);
  for (int round = 0; round < 20; ++round) {
    const std::vector<std::string> letters = {"a", "a", "b"};
    const VocabularySource bpe = random_bpe(random, letters);
    const VocabularySource spm = random_spm(random, round % 2, false, true);
    const auto bpe_tokenizer = Tokenizer::build(bpe), spm_tokenizer = Tokenizer::build(spm);
    const std::string text = random_text(random, letters, 600);
    REQUIRE(encode(*bpe_tokenizer, text) == reference_bpe(bpe, text));
    REQUIRE(encode(*spm_tokenizer, text) == reference_spm(spm, text));
  }
}
