// Hostile and broken vocabularies.
#include "tokenizer/vocabulary.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "core/error.h"
#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

void check_invalid(const VocabularySource& source, std::string_view message) {
  INFO(message);
  try {
    Tokenizer::build(source);
    FAIL_CHECK("built");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_model);
    CHECK_MESSAGE(std::string(error.what()).find(message) != std::string::npos, error.what());
  }
}

template <class Change>
void check_invalid_spm(std::string_view message, Change change) {
  VocabularySource source = spm_source({"_", "a"});
  change(source);
  check_invalid(source, message);
}

template <class Change>
void check_invalid_bpe(std::string_view message, Change change) {
  VocabularySource source = bpe_source({"ab"});
  change(source);
  check_invalid(source, message);
}

}  // namespace

TEST_CASE("arrays of different lengths") {
  check_invalid_spm("260 scores for 261 tokens", [](auto& s) { s.scores.pop_back(); });
  check_invalid_spm("262 scores for 261 tokens", [](auto& s) { s.scores.push_back(0); });
  check_invalid_spm("0 scores", [](auto& s) { s.scores.clear(); });
  check_invalid_spm("260 token types", [](auto& s) { s.types.pop_back(); });
  check_invalid_spm("not a number", [](auto& s) { s.scores[260] = std::numeric_limits<float>::quiet_NaN(); });
  check_invalid_spm("unknown type 7", [](auto& s) { s.types[5] = TokenType{7}; });
  check_invalid_spm("unknown type 255", [](auto& s) { s.types[5] = TokenType{255}; });
  check_invalid_bpe("1 token types", [](auto& s) { s.types.resize(1); });
  check_invalid({}, "no tokens");
}

TEST_CASE("ids beyond the vocabulary") {
  check_invalid_spm("BOS token 261", [](auto& s) { s.bos = 261; });
  check_invalid_spm("EOS token 4294967295", [](auto& s) { s.eos = 0xffffffff; });
}

TEST_CASE("byte tokens") {
  for (const char* bad : {"<0x-1>", "<0x1G>", "<0x1g>", "<0x0a>", "<0x>", "<0x1>", "<0x011>", "<0X11>",
                          "0x11", "", "<0x 1>", "<0x11> "}) {
    check_invalid_spm("not spelled <0xHH>", [&](auto& s) { s.tokens[3] = bad; });
  }
  check_invalid_spm("tokens 4 and 5 are both <0x01>", [](auto& s) { s.tokens[5] = "<0x01>"; });
}

TEST_CASE("ids of EOT and the like beyond the vocabulary are ignored with a warning") {
  VocabularySource source = spm_source({"_", "a"});
  source.eot = 261;
  source.unk = 262;
  source.pad = kNoToken;
  source.extra_eog = {2, 263};
  const auto tokenizer = Tokenizer::build(source);
  CHECK(tokenizer->end_of_generation_ids() == std::vector<TokenId>{2});
  REQUIRE(tokenizer->warnings().size() == 4);
  CHECK(tokenizer->warnings()[0] == "the EOT token 261 is beyond the vocabulary of 261; it is ignored");
  CHECK(tokenizer->warnings()[1].find("unknown token 262") != std::string::npos);
  CHECK(tokenizer->warnings()[2].find("padding token 4294967295") != std::string::npos);
  CHECK(tokenizer->warnings()[3].find("end-of-generation token 263") != std::string::npos);
}

TEST_CASE("tokens of undefined type are normal") {
  VocabularySource source = spm_source({"_", "a", "_a"});
  for (auto& type : source.types)
    if (type == TokenType::normal) type = TokenType::undefined;
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "a") == "_a");
  CHECK(tokenizer->type(260) == TokenType::normal);
  CHECK(tokenizer->decode(std::vector<TokenId>{261}, false) == "a");
}

TEST_CASE("a byte without a token gives no token, and its neighbours merge") {
  VocabularySource source = bpe_source({"ab"});
  source.tokens[1] = "unreachable1";  // U+0001 has no token
  source.types[1] = TokenType::unused;
  const auto tokenizer = Tokenizer::build(source);
  CHECK(encode(*tokenizer, "\x01").empty());
  CHECK(pieces_of(*tokenizer, "!\x01!") == "!|!");
  std::string text = "!";
  for (int i = 0; i < 100; ++i) text += "\x01";  // beyond the scan of short pieces, and of the cache
  CHECK(pieces_of(*tokenizer, text + "!") == "!|!");
  CHECK(encode(*tokenizer, "ab") == std::vector<TokenId>{256});
}

TEST_CASE("a SentencePiece vocabulary without bytes gives the unknown token") {
  VocabularySource source;
  add_token(source, "<unk>", 0, TokenType::unknown);
  for (const char* p : {"_", "a", "_a"}) add_token(source, piece(p), -1);
  source.unk = 0;
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "a") == "_a");
  // Unknown characters side by side are one token, across words too, and from the cache.
  CHECK(pieces_of(*tokenizer, "xyz a") == "_|<unk>|_a");
  CHECK(pieces_of(*tokenizer, "xyz a") == "_|<unk>|_a");
  CHECK(pieces_of(*tokenizer, "a\xE4\xB8\xAD\xE4\xB8\xAD\xE4\xB8\xAD") == "_a|<unk>");
  source.unk.reset();
  source.types[0] = TokenType::control;
  CHECK(pieces_of(*Tokenizer::build(source), "xa") == "_|a");
}

TEST_CASE("duplicate pieces") {
  check_invalid_spm("are both \"a\"", [](auto& s) { add_token(s, "a"); });
  check_invalid_spm("are both", [](auto& s) { add_token(s, "a", 0, TokenType::user_defined); });
  check_invalid_bpe("are both \"ab\"", [](auto& s) { add_control(s, "ab", TokenType::normal); });
  // Control tokens may share a spelling; find() returns the first.
  VocabularySource source = spm_source({"_", "a"});
  add_control(source, "<x>");
  add_control(source, "<x>");
  add_control(source, "a");
  const auto tokenizer = Tokenizer::build(source);
  CHECK(tokenizer->find("<x>") == 261);
  CHECK(pieces_of(*tokenizer, "a") == "_|a");
  CHECK(encode(*tokenizer, "a").back() == 260);
}

TEST_CASE("tokens that are not in the byte alphabet") {
  for (const char* literal : {" ", "a b", "\xFF", "\xC4", "\xE2\x82\xAC", "\xC5\xBF", "\n"}) {
    INFO(literal);
    VocabularySource odd = bpe_source({});
    add_control(odd, literal, TokenType::normal);
    const auto tokenizer = Tokenizer::build(odd);
    CHECK(tokenizer->token_bytes(256, false) == literal);
    CHECK(tokenizer->find(literal) == 256);
    for (const TokenId id : encode(*tokenizer, to_well_formed(literal))) CHECK(id < 256);
  }
  VocabularySource source = bpe_source({});
  add_control(source, "<|a b|>");
  add_control(source, "two\nlines", TokenType::user_defined);
  add_control(source, "[PAD 1]", TokenType::unused);
  const auto tokenizer = Tokenizer::build(source);
  CHECK(tokenizer->token_bytes(256, true) == "<|a b|>");
  CHECK(tokenizer->token_bytes(256, false).empty());
  CHECK(tokenizer->token_bytes(257, false) == "two\nlines");
  CHECK(tokenizer->find("<|a b|>") == 256);
}

TEST_CASE("odd but harmless tokens") {
  VocabularySource source = spm_source({"_", "a"});
  add_token(source, "");          // an unused id
  add_token(source, "\xFF\xFE");  // not UTF-8: never matches
  add_token(source, "a b");       // a space where U+2581 should be
  add_token(source, "");
  const auto tokenizer = Tokenizer::build(source);
  CHECK(pieces_of(*tokenizer, "a b") == "_|a|_|<0x62>");
  CHECK(tokenizer->token_bytes(261, true).empty());
  CHECK(tokenizer->token_bytes(262, false) == "\xFF\xFE");
  CHECK(tokenizer->decode(std::vector<TokenId>{262}, false) == "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("without types") {
  VocabularySource source = spm_source({"_", "a"});
  source.types.clear();
  const auto tokenizer = Tokenizer::build(source);
  CHECK(tokenizer->type(0) == TokenType::unknown);
  CHECK(tokenizer->type(1) == TokenType::control);
  CHECK(tokenizer->type(3) == TokenType::byte);
  CHECK(pieces_of(*tokenizer, "ab") == "_|a|<0x62>");
}

TEST_CASE("properties of tokens") {
  VocabularySource spm = spm_source({"_a", "_", "a"});
  spm.chat_template = "{{ x }}";
  const auto tokenizer = Tokenizer::build(spm);
  CHECK(tokenizer->kind() == TokenizerKind::sentencepiece);
  CHECK(tokenizer->vocab_size() == 262);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->chat_template() == "{{ x }}");
  CHECK(tokenizer->token_bytes(259, false) == " a");
  CHECK(tokenizer->token_bytes(3 + 0x41, false) == "A");
  CHECK(tokenizer->token_bytes(1, false).empty());
  CHECK(tokenizer->token_bytes(1, true) == "<s>");
  CHECK(tokenizer->spelling(259) == piece("_a"));
  CHECK(tokenizer->find(piece("_a")) == 259);
  CHECK_FALSE(tokenizer->find(" a"));
  CHECK(tokenizer->find("<0x41>") == 3 + 0x41);
  CHECK_FALSE(tokenizer->find("nothing"));
  const auto bpe = Tokenizer::build(bpe_source({" a"}));
  CHECK(bpe->spelling(256) ==
        "\xC4\xA0"
        "a");
  CHECK(bpe->find("\xC4\xA0"
                  "a") == 256);
  CHECK_FALSE(bpe->find(" a"));
  CHECK_FALSE(bpe->adds_bos());  // it has no BOS
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { bpe->token_bytes(257, false); }, [&] { bpe->spelling(0xffffffff); }, [&] { bpe->type(257); },
           [&] { bpe->decode(std::vector<TokenId>{1, 257}, false); }}) {
    try {
      call();
      FAIL_CHECK("no error");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
    }
  }
}

TEST_CASE("ids that end a generation") {
  VocabularySource source = bpe_source({"xy"});
  for (const char* control :
       {"<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_start|>", "<|custom|>", "<|im_end|>"}) {
    add_control(source, control);
  }
  add_control(source, "<|endoftext|>", TokenType::user_defined);  // user-defined: part of the text
  source.eos = 258;
  source.extra_eog = {261};
  CHECK(Tokenizer::build(source)->end_of_generation_ids() == std::vector<TokenId>{257, 258, 259, 261, 262});
}
