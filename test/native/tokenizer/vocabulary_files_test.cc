// The readers of tokenizer files, on small files that are right and on hostile ones.
#include "tokenizer/vocabulary_files.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "io/expect_error.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer_files.h"

using namespace cria;
using namespace cria::test;

namespace {

std::shared_ptr<const Tokenizer> build(std::string bytes) {
  return Tokenizer::build(read_vocabulary_file(std::move(bytes), "file"));
}

void invalid(std::string bytes, const std::string& mentions) {
  INFO(mentions);
  expect_error(ErrorCode::invalid_file, mentions, [&] { build(std::move(bytes)); });
}
void unsupported(std::string bytes, const std::string& mentions) {
  INFO(mentions);
  expect_error(ErrorCode::unsupported_model, mentions, [&] { build(std::move(bytes)); });
}

/// A changed tokenizer.json.
std::string changed(TokenizerJson json, const std::function<void(TokenizerJson&)>& change) {
  change(json);
  return json.text();
}
std::string byte_level(const std::function<void(TokenizerJson&)>& change) {
  return changed(byte_level_json(), change);
}
std::string characters(const std::function<void(TokenizerJson&)>& change) {
  return changed(characters_json(), change);
}

std::string with_pre_tokenizers(const std::string& steps) {
  return byte_level(
      [&](TokenizerJson& j) { j.pre_tokenizer = R"({"type":"Sequence","pretokenizers":[)" + steps + "]}"; });
}
constexpr const char* kBytes = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})";

std::string split_step(std::string_view expression, const std::string& behavior = R"("Isolated")",
                       const std::string& invert = "false") {
  return R"({"type":"Split","pattern":{"Regex":)" + json_string(expression) + R"(},"behavior":)" + behavior +
         R"(,"invert":)" + invert + "}";
}

}  // namespace

TEST_CASE("a SentencePiece model") {
  const VocabularySource given = spm_source({"_", "a", "_a", "ab"});
  const auto tokenizer = build(sentencepiece_file(given));
  CHECK(tokenizer->kind() == TokenizerKind::sentencepiece);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->adds_bos());
  for (const char* text : {"a", "ab ab", "x\n", "  a"})
    CHECK(encode(*tokenizer, text) == encode(*Tokenizer::build(given), text));
  // Other ids, and none: they are sign-extended.
  const auto named = build(sentencepiece_file(
      given, number_field(3, 2) + number_field(41, 2) + number_field(42, ~std::uint64_t{0})));
  CHECK(named->bos() == 2);
  CHECK_FALSE(named->eos());
}

TEST_CASE("SentencePiece's normalizer spec") {
  const VocabularySource given = spm_source({"_", "a", "_a"});
  const auto without_prefix = build(sentencepiece_file(given, {}, number_field(3, 0) + number_field(4, 0)));
  CHECK(pieces_of(*without_prefix, "a  a") == "a|_|_a");
  const auto collapsed = build(sentencepiece_file(given, {}, number_field(4, 1)));
  CHECK(pieces_of(*collapsed, "  a   a ") == "_a|_a");
  CHECK(pieces_of(*collapsed, "   ").empty());
}

TEST_CASE("hostile SentencePiece models") {
  const VocabularySource given = spm_source({"_", "a"});
  const std::string good = sentencepiece_file(given);
  const auto spec = [&](std::string trainer, std::string normalizer = {}) {
    return sentencepiece_file(given, trainer, normalizer);
  };
  for (std::size_t size = 4; size < good.size(); size += 1 + size / 40) {
    // Cut anywhere: an error or, between two messages, a smaller vocabulary.
    try {
      build(good.substr(0, size));
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::invalid_file || error.code() == ErrorCode::unsupported_model ||
             error.code() == ErrorCode::unsupported_file));
    }
  }
  unsupported(spec(number_field(3, 1)), "unigram");
  unsupported(spec(number_field(40, 0)), "unigram");  // the default
  unsupported(spec(number_field(3, 3)), "word");
  unsupported(spec(number_field(3, 4)), "char");
  unsupported(spec(number_field(3, 77)), "77");
  unsupported(spec(number_field(3, 2) + number_field(24, 1)), "treat_whitespace_as_suffix");
  unsupported(spec({}, bytes_field(1, "nmt_nfkc") + bytes_field(2, "map")), "nmt_nfkc");
  unsupported(spec({}, number_field(5, 0)), "escape_whitespaces");
  invalid(spec(bytes_field(3, "2")), "field 3 of another type");
  invalid(spec({}, float_field(4, 1)), "field 4 of another type");
  invalid(good + bytes_field(1, bytes_field(2, "abcd")), "field 2 of another type");
  invalid(good + bytes_field(1, number_field(1, 1)), "field 1 of another type");
  invalid(good + piece_field("x", 0, 0), "the piece type 0");
  invalid(good + piece_field("x", 0, 7), "the piece type 7");
  invalid(good + number_field(1, 5), "field 1 of another type");
  invalid(good + varint(1 << 3 | 2) + varint(~std::uint64_t{0}), "a field of 18446744073709551615 bytes");
  invalid(good + varint(1 << 3 | 2) + varint(100), "a field of 100 bytes");
  invalid(good + std::string("\x0b"), "wire type 3");
  invalid(good + std::string("\x0f"), "wire type 7");
  invalid(good + std::string("\x02", 1), "a field number out of range");
  invalid(good + std::string(11, '\xff'), "a number of more than 64 bits");
  invalid(good + std::string("\xff\xff"), "the end of the data");
  invalid(good + std::string("\x5d\x01\x02"), "the end of the data");
  expect_error(ErrorCode::invalid_model, "are both \"a\"", [&] { build(good + piece_field("a", 0, 1)); });
  expect_error(ErrorCode::invalid_model, "not a number",
               [&] { build(good + piece_field("x", std::numeric_limits<float>::quiet_NaN(), 1)); });
  expect_error(ErrorCode::invalid_model, "<0xHH>", [&] { build(good + piece_field("<0xZZ>", 0, 6)); });
}

TEST_CASE("a rank file") {
  const auto tokenizer = build(rank_file({"ab", "abc", "the"}));
  CHECK(tokenizer->vocab_size() == 259 + 256);
  CHECK(tokenizer->spelling(259) == "<|begin_of_text|>");
  CHECK(tokenizer->spelling(268) == "<|eot_id|>");
  CHECK(tokenizer->spelling(270) == "<|reserved_special_token_2|>");
  CHECK(tokenizer->bos() == 259);
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->end_of_generation_ids() == std::vector<TokenId>{260, 267, 268});
  CHECK(encode(*tokenizer, "abc abx") == std::vector<TokenId>{257, ' ', 256, 'x'});
  CHECK(Tokenizer::build(read_tiktoken_ranks(rank_file({}), "file", 256))->vocab_size() == 256);
  CHECK(Tokenizer::build(read_tiktoken_ranks(rank_file({}), "file", 260))->vocab_size() == 260);
  // A Windows editor.
  CHECK(build(replace_all(rank_file({"ab"}), "\n", "\r\n"))->vocab_size() == 513);
}

TEST_CASE("hostile rank files") {
  const std::string good = rank_file({"ab"});
  invalid(good + "YWI= 256\n", "expected the rank 257, found \"256\"");
  invalid(good + "YWI= 258\n", "expected the rank 257");
  invalid(good + "YWI= -1\n", "expected the rank 257");
  invalid(good + "YWI= 257x\n", "expected the rank 257");
  invalid(good + "YWI= \n", "expected the rank 257");
  invalid(good + "YWI= 99999999999999999999\n", "expected the rank 257");
  invalid(good + "YWI=257\n", "expected a token in base64");
  invalid(good + " 257\n", "expected a token in base64");
  invalid(good + "YWI 257\n", "expected a token in base64");
  invalid(good + "YW=I 257\n", "expected a token in base64");
  invalid(good + "Y=== 257\n", "expected a token in base64");
  invalid(good + "YWJ= 257\n", "expected a token in base64");  // unused bits set
  invalid(good + "YW\xFF= 257\n", "expected a token in base64");
  invalid(good + "YWI= 257 \n", "expected the rank 257");
  invalid(good + std::string("\0", 1), "line 258");
  expect_error(ErrorCode::invalid_model, "are both \"ab\"", [&] { build(good + "YWI= 257\n"); });
  expect_error(ErrorCode::invalid_file, "an empty file", [] { read_tiktoken_ranks("\n\n", "file"); });
  for (const std::uint32_t size : {0u, 1u, 256u, 70000u, 0xffffffffu}) {
    expect_error(ErrorCode::invalid_model, "257 ranks do not fit a vocabulary of " + std::to_string(size),
                 [&] { read_tiktoken_ranks(good, "file", size); });
  }
}

TEST_CASE("tekken.json") {
  const auto tokenizer = build(tekken_file({"ab", "abc"}));
  CHECK(tokenizer->vocab_size() == 261);
  CHECK(tokenizer->spelling(1) == "<s>");
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(encode(*tokenizer, "abcX") == std::vector<TokenId>{260, 3 + 'X'});
  CHECK(encode(*tokenizer, "ABab") == std::vector<TokenId>{3 + 'A', 3 + 'B', 259});
  const auto listed = build(replace_all(
      tekken_file({}), "\"vocab\":",
      R"("special_tokens":[{"rank":0,"token_str":"<a>","is_control":true},{"rank":2,"token_str":"<s>"}],"vocab":)"));
  CHECK(listed->spelling(0) == "<a>");
  CHECK(listed->spelling(1) == "<SPECIAL_1>");
  CHECK(listed->bos() == 2);
}

TEST_CASE("hostile tekken.json") {
  const std::string good = tekken_file({"ab"});
  const auto with = [&](std::string_view from, std::string_view to) { return replace_all(good, from, to); };
  invalid(good.substr(0, good.size() / 2), "line 1");
  invalid(with("\"rank\":256,", "\"rank\":255,"), "expected 256, found 255");
  invalid(with("\"rank\":0,", "\"rank\":-1,"), "vocab[0].rank");
  invalid(with("\"rank\":7,", ""), "vocab[7]: expected a member \"rank\"");
  invalid(with("\"YWI=\"", "\"YWI\""), "bytes in base64");
  invalid(with("\"YWI=\"", "\"\""), "bytes in base64");
  invalid(with("\"YWI=\"", "17"), "vocab[256].token_bytes");
  invalid(with("\"default_vocab_size\":260", "\"default_vocab_size\":1"), "default_vocab_size");
  invalid(with("\"default_vocab_size\":260", "\"default_vocab_size\":261"), "default_vocab_size");
  invalid(with("\"default_vocab_size\":260", "\"default_vocab_size\":1e300"), "default_vocab_size");
  invalid(with("\"default_num_special_tokens\":3", "\"default_num_special_tokens\":99999999999"), "65536");
  invalid(with("\"default_num_special_tokens\":3", "\"default_num_special_tokens\":true"),
          "default_num_special_tokens");
  invalid(with("\"config\":{", "\"config\":[],\"x\":{"), "config");
  invalid(with("\"vocab\":[", "\"vocab\":{},\"x\":["), "vocab");
  invalid(with("\"vocab\":", "\"special_tokens\":[{\"rank\":3,\"token_str\":\"x\"}],\"vocab\":"),
          "expected less than 3, found 3");
  invalid(with("\"vocab\":", "\"special_tokens\":{},\"vocab\":"), "special_tokens");
  invalid(with("\"vocab\":", "\"special_tokens\":[{\"rank\":0}],\"vocab\":"), "token_str");
  unsupported(with("\"pattern\":", "\"pattern\":\"[a-z]+\",\"old\":"), "[a-z]+");
  expect_error(ErrorCode::invalid_model, "are both \"ab\"", [&] { build(tekken_file({"ab", "ab"})); });
  expect_error(ErrorCode::unsupported_file, "found other JSON", [] { build("{\"a\":1}"); });
}

TEST_CASE("a byte-level tokenizer.json") {
  const auto tokenizer = build(byte_level_json().text());
  CHECK(tokenizer->kind() == TokenizerKind::bpe);
  CHECK(tokenizer->vocab_size() == 259);
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->bos() == 258);
  CHECK(tokenizer->warnings().empty());
  CHECK(encode(*tokenizer, "abc 12") == std::vector<TokenId>{257, ' ', '1', '2'});
  CHECK(pieces_of(*tokenizer, "a<|end|>", true) == "a|<|end|>");
  const auto source = [](std::string json) { return read_tokenizer_json(std::move(json), "file"); };
  CHECK(source(byte_level_json().text()).pre_tokenizer == "gpt-2");
  CHECK(source(with_pre_tokenizers(R"({"type":"Digits","individual_digits":true},)" +
                                   std::string(byte_level_json().pre_tokenizer)))
            .pre_tokenizer == "starcoder");
  const std::string falcon =
      R"({"type":"Punctuation","behavior":"Contiguous"},)" + byte_level_json().pre_tokenizer +
      R"(,{"type":"Digits","individual_digits":false},)" + split_step("[0-9][0-9][0-9]");
  CHECK(source(with_pre_tokenizers(falcon)).pre_tokenizer == "falcon");
  // A combination without a name.
  const VocabularySource unnamed = source(with_pre_tokenizers(split_step(R"(\p{N}{1,3})") + "," + kBytes));
  REQUIRE(unnamed.split_expressions);
  CHECK(*unnamed.split_expressions == std::vector<std::string>{R"(\p{N}{1,3})"});
  CHECK(pieces_of(*Tokenizer::build(unnamed), "ab12") == "ab|1|2");
  // What remains of the text is removed, but nothing remains.
  const std::string inverted =
      split_step(find_pre_tokenizer("qwen2")->expressions[0], R"("Removed")", "true");
  CHECK(source(with_pre_tokenizers(inverted + "," + kBytes)).pre_tokenizer == "qwen2");
}

TEST_CASE("a tokenizer.json over characters") {
  const auto tokenizer = build(characters_json().text());
  CHECK(tokenizer->kind() == TokenizerKind::sentencepiece);
  CHECK(tokenizer->type(0) == TokenType::unknown);
  CHECK(tokenizer->type(3) == TokenType::byte);
  CHECK(tokenizer->eos() == 2);
  CHECK(pieces_of(*tokenizer, "ab a") == "_a|b|_a");  // the first merge ranks before the second
  CHECK(pieces_of(*tokenizer, " a") == "_|_a");
  CHECK(pieces_of(*tokenizer, "z") == "_|<0x7A>");
  // Only the listed pairs merge: there is "_ab", but no way to it.
  TokenizerJson more = characters_json();
  more.vocab = json_vocab(spm_source({"_", "a", "b", "_a", "ab", "_ab"}).tokens);
  CHECK(pieces_of(*build(more.text()), "ab") == "_a|b");
}

TEST_CASE("Metaspace puts the prefix elsewhere") {
  const auto with = [](const char* scheme) {
    return build(characters([&](TokenizerJson& j) {
      j.normalizer = "null";
      j.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"" +
                        std::string(scheme) + "\",\"split\":false}";
    }));
  };
  CHECK(pieces_of(*with("always"), "a") == "_a");
  CHECK(pieces_of(*with("always"), " a") == "_a");  // it has its space already
  CHECK(pieces_of(*with("always"), "a<s>a", true) == "_a|<s>|_a");
  CHECK(pieces_of(*with("first"), "a<s>a", true) == "_a|<s>|a");
  CHECK(pieces_of(*with("first"), "<s>a", true) == "<s>|a");
  CHECK(pieces_of(*with("never"), "a a") == "a|_a");
  const auto first = with("first");
  CHECK(first->decode(encode(*first, "a<s> a", true), true) == "a<s> a");
  CHECK(with("always")->decode(encode(*with("always"), "a<s>a", true), true) == "a<s>a");
}

TEST_CASE("tokenizer.json of other kinds is refused by name") {
  for (const char* type : {"Unigram", "WordPiece", "WordLevel"})
    unsupported(byte_level([&](TokenizerJson& j) { j.model_type = json_string(type); }), type);
  const auto rest = [](const char* members) {
    return byte_level([&](TokenizerJson& j) { j.model_rest = members; });
  };
  unsupported(rest(R"(,"dropout":0.1)"), "model.dropout");
  unsupported(rest(R"(,"continuing_subword_prefix":"##")"), "model.continuing_subword_prefix");
  unsupported(rest(R"(,"end_of_word_suffix":"</w>")"), "model.end_of_word_suffix");
  const auto normalizer = [](const char* json) {
    return byte_level([&](TokenizerJson& j) { j.normalizer = json; });
  };
  for (const char* type : {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Precompiled"})
    unsupported(normalizer(("{\"type\":\"" + std::string(type) + "\"}").c_str()), type);
  unsupported(with_pre_tokenizers(R"({"type":"ByteLevel","add_prefix_space":true})"), "add_prefix_space");
  unsupported(with_pre_tokenizers(split_step("[a-z]+") + "," + kBytes), "[a-z]+");
  unsupported(with_pre_tokenizers(split_step(R"(\p{N})", R"("MergedWithNext")") + "," + kBytes),
              "MergedWithNext");
  unsupported(with_pre_tokenizers(split_step(R"(\p{N})", R"("Removed")", "true") + "," + kBytes), "Removed");
  unsupported(with_pre_tokenizers(R"({"type":"Split","pattern":{"String":"x"},"behavior":"Isolated"},)" +
                                  std::string(kBytes)),
              "a string");
  unsupported(with_pre_tokenizers(R"({"type":"Punctuation"},)" + std::string(kBytes)), "Isolated");
  unsupported(with_pre_tokenizers(R"({"type":"Whitespace"},)" + std::string(kBytes)), "Whitespace");
  unsupported(with_pre_tokenizers(std::string(kBytes) + R"(,{"type":"Digits","individual_digits":true})"),
              "after it");
  unsupported(byte_level([](TokenizerJson& j) { j.decoder = R"({"type":"WordPiece"})"; }), "WordPiece");
  unsupported(byte_level([](TokenizerJson& j) { j.post_processor = R"({"type":"RobertaProcessing"})"; }),
              "RobertaProcessing");
  unsupported(characters([](TokenizerJson& j) { j.normalizer = "null"; }), "neither");
  unsupported(characters([](TokenizerJson& j) {
                j.normalizer = "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"}";
              }),
              "Prepend alone");
  unsupported(characters([](TokenizerJson& j) {
                j.normalizer = "null";
                j.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\"}";
              }),
              "split: true");
  unsupported(characters([](TokenizerJson& j) {
                j.model_rest = R"(,"unk_token":"<unk>","byte_fallback":false,"fuse_unk":false)";
              }),
              "fuse_unk");
}

TEST_CASE("hostile tokenizer.json") {
  const std::string good = byte_level_json().text();
  for (std::size_t size = 1; size < good.size(); size += 97)
    expect_error(ErrorCode::invalid_file, "file", [&] { read_tokenizer_json(good.substr(0, size), "file"); });
  const auto bytes = [&](auto change) { return byte_level(change); };
  invalid(bytes([](auto& j) { j.vocab = "[]"; }), "vocab");
  invalid(bytes([](auto& j) { j.vocab = R"({"a":-1})"; }), "model.vocab.a");
  invalid(bytes([](auto& j) { j.vocab = R"({"a":1.5})"; }), "model.vocab.a");
  invalid(bytes([](auto& j) { j.vocab = R"({"a":"0"})"; }), "model.vocab.a");
  invalid(bytes([](auto& j) { j.vocab = R"({"a":4000000000})"; }), "an id below");
  invalid(bytes([](auto& j) { j.vocab = R"({"a":0,"b":0})"; }), "a second time");
  invalid(bytes([](auto& j) { j.merges = "{}"; }), "merges");
  invalid(bytes([](auto& j) { j.merges = "[]"; }), "merges");
  invalid(bytes([](auto& j) { j.merges = R"([["a"]])"; }), "a pair of pieces");
  invalid(bytes([](auto& j) { j.merges = R"([["a","b","c"]])"; }), "a pair of pieces");
  invalid(bytes([](auto& j) { j.merges = R"([["a"," b"]])"; }), "a piece without spaces");
  invalid(bytes([](auto& j) { j.merges = "[7]"; }), "merges[0]");
  invalid(bytes([](auto& j) { j.added_tokens = "{}"; }), "added_tokens");
  invalid(bytes([](auto& j) { j.added_tokens = R"([{"id":300}])"; }), "content");
  invalid(bytes([](auto& j) { j.added_tokens = R"([{"id":300,"content":""}])"; }), "a spelling");
  invalid(bytes([](auto& j) { j.added_tokens = R"([{"id":97,"content":"b"}])"; }), "id 97");
  invalid(bytes([](auto& j) { j.added_tokens = R"([{"id":99999999,"content":"x"}])"; }), "an id below");
  invalid(bytes([](auto& j) { j.pre_tokenizer = "7"; }), "pre_tokenizer");
  invalid(bytes([](auto& j) { j.pre_tokenizer = R"({"type":"Sequence"})"; }), "pretokenizers");
  invalid(bytes([](auto& j) {
            j.post_processor = R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"nope"}}]})";
          }),
          "nope");
  invalid(bytes([](auto& j) { j.model_rest = R"(,"unk_token":"nope")"; }), "nope");
  const auto model = [&](auto change, const char* mentions) {
    expect_error(ErrorCode::invalid_model, mentions, [&] { build(byte_level(change)); });
  };
  model([](auto& j) { j.merges = R"(["a"])"; }, "merge 0");
  model([](auto& j) { j.merges = R"(["a \u20ac"])"; }, "merge 0");
  model([](auto& j) { j.merges = R"(["a b","a zz"])"; }, "merge 1");
  expect_error(ErrorCode::invalid_model, "merge 0",
               [&] { build(characters([](auto& j) { j.merges = R"(["a zz"])"; })); });
}

TEST_CASE("a gap among the ids is an unused token") {
  TokenizerJson json = byte_level_json();
  json.added_tokens = R"([{"id":260,"content":"<|end|>","special":true}])";
  const auto tokenizer = build(json.text());
  CHECK(tokenizer->vocab_size() == 261);
  CHECK(tokenizer->spelling(258) == "[PAD258]");
  CHECK(tokenizer->type(259) == TokenType::unused);
}

TEST_CASE("tokenizer_config.json") {
  const auto apply = [](const char* json) {
    VocabularySource source = read_tokenizer_json(byte_level_json().text(), "file");
    apply_tokenizer_config(json, "config", source);
    return source;
  };
  CHECK(apply(R"({"eos_token":"<|end|>"})").eos == 258);
  CHECK(apply(R"({"eos_token":{"content":"<|end|>","lstrip":false}})").eos == 258);
  CHECK(apply(R"({"pad_token":null})").warnings.empty());
  CHECK(apply(R"({"pad_token":"<nope>"})").warnings.size() == 1);
  // The post-processor counts, but for Llama's own class.
  CHECK(apply(R"({"add_bos_token":false})").add_bos == true);
  CHECK(apply(R"({"add_bos_token":false,"tokenizer_class":"LlamaTokenizerFast"})").add_bos == false);
  CHECK(apply(R"({"chat_template":"x"})").chat_template == "x");
  CHECK(apply(R"({"chat_template":[{"name":"a","template":"1"},{"name":"default","template":"2"}]})")
            .chat_template == "2");
  CHECK(apply(R"({"chat_template":[]})").chat_template.empty());
  for (const char* bad :
       {"", "[]", "{", R"({"bos_token":7})", R"({"add_bos_token":"yes"})", R"({"chat_template":7})",
        R"({"chat_template":[{"name":"a"}]})", R"({"eos_token":{}})"}) {
    expect_error(ErrorCode::invalid_file, "config", [&] { apply(bad); });
  }
}

TEST_CASE("files are told apart by their contents") {
  CHECK(looks_like_tokenizer(rank_file({})));
  CHECK(looks_like_tokenizer(tekken_file({})));
  CHECK(looks_like_tokenizer(byte_level_json().text()));
  CHECK(looks_like_tokenizer(sentencepiece_file(spm_source())));
  for (const char* other : {"", "GGUF", "PK\x03\x04", "this is no model", "\n\n\n\n\n", "[1]"}) {
    CHECK_FALSE(looks_like_tokenizer(other));
    expect_error(ErrorCode::unsupported_file, "expected tokenizer.json", [&] { build(other); });
  }
}
