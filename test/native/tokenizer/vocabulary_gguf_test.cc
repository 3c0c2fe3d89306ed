#include "engine/vocabulary_gguf.h"

#include <doctest/doctest.h>

#include "io/expect_error.h"
#include "io/gguf_builder.h"
#include "tokenizer/bpe.h"
#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

GgufBuilder builder_of(const VocabularySource& source) {
  GgufBuilder b;
  const bool spm = source.kind == TokenizerKind::sentencepiece;
  b.set("tokenizer.ggml.model", spm ? "llama" : "gpt2").set("tokenizer.ggml.pre", source.pre_tokenizer);
  b.set_strings("tokenizer.ggml.tokens", source.tokens);
  if (spm) b.set_numbers<float>("tokenizer.ggml.scores", GgufType::f32, source.scores);
  std::vector<std::int32_t> types;
  for (TokenType type : source.types) types.push_back(static_cast<std::int32_t>(type));
  b.set_numbers<std::int32_t>("tokenizer.ggml.token_type", GgufType::i32, types);
  if (!source.merges.empty()) b.set_strings("tokenizer.ggml.merges", source.merges);
  return b;
}

VocabularySource read(const GgufBuilder& builder) { return read_vocabulary(open_bytes(builder.build())); }

}  // namespace

TEST_CASE("a SentencePiece vocabulary") {
  GgufBuilder b = builder_of(spm_source({"_a", "_"}));
  b.set("tokenizer.ggml.bos_token_id", 1u).set("tokenizer.ggml.eos_token_id", 2u);
  b.set("tokenizer.ggml.unknown_token_id", 0u).set("tokenizer.ggml.padding_token_id", 0u);
  b.set("tokenizer.ggml.add_bos_token", false).set("tokenizer.ggml.add_eos_token", true);
  b.set("tokenizer.ggml.add_space_prefix", false).set("tokenizer.chat_template", "{{ messages }}");
  const VocabularySource source = read(b);
  CHECK(source.kind == TokenizerKind::sentencepiece);
  CHECK(source.tokens.size() == 261);
  CHECK(source.scores[260] == -2);
  CHECK(source.types[3] == TokenType::byte);
  CHECK(source.bos == 1);
  CHECK(source.eos == 2);
  CHECK(source.unk == 0);
  CHECK(source.pad == 0);
  CHECK_FALSE(source.eot);
  CHECK(source.add_bos == false);
  CHECK(source.add_eos == true);
  CHECK(source.add_space_prefix == false);
  CHECK(source.chat_template == "{{ messages }}");
  CHECK_FALSE(Tokenizer::build(source)->adds_bos());
}

TEST_CASE("a byte-level BPE vocabulary") {
  VocabularySource given = bpe_source({"ab"});
  add_control(given, "<|eot_id|>");
  add_control(given, "<|other|>");
  given.merges = {"a b"};
  GgufBuilder b = builder_of(given);
  b.set("tokenizer.ggml.eot_token_id", 257u).set("tokenizer.ggml.eom_token_id", 258u);
  const VocabularySource source = read(b);
  CHECK(source.kind == TokenizerKind::bpe);
  CHECK(source.pre_tokenizer == "llama-bpe");
  CHECK(source.merges == given.merges);
  CHECK(Tokenizer::build(source)->end_of_generation_ids() == std::vector<TokenId>{257, 258});
}

TEST_CASE("missing, mistyped and unsupported metadata") {
  const GgufBuilder spm = builder_of(spm_source({"_"}));
  const auto refuse = [&](ErrorCode code, const char* mentions, auto change) {
    GgufBuilder b = spm;
    change(b);
    expect_error(code, mentions, [&] { Tokenizer::build(read(b)); });
  };
  const auto invalid = ErrorCode::invalid_model;
  refuse(invalid, "tokenizer.ggml.model", [](GgufBuilder& b) { b.remove("tokenizer.ggml.model"); });
  refuse(ErrorCode::unsupported_model, "\"bert\"",
         [](GgufBuilder& b) { b.set("tokenizer.ggml.model", "bert"); });
  refuse(invalid, "tokenizer.ggml.tokens", [](GgufBuilder& b) { b.remove("tokenizer.ggml.tokens"); });
  refuse(invalid, "tokenizer.ggml.tokens", [](GgufBuilder& b) { b.set("tokenizer.ggml.tokens", 7u); });
  refuse(invalid, "tokenizer.ggml.tokens",
         [](GgufBuilder& b) { b.set_numbers<float>("tokenizer.ggml.tokens", GgufType::f32, {1, 2}); });
  refuse(invalid, "tokenizer.ggml.scores", [](GgufBuilder& b) { b.remove("tokenizer.ggml.scores"); });
  refuse(invalid, "tokenizer.ggml.scores",
         [](GgufBuilder& b) { b.set_strings("tokenizer.ggml.scores", {"a"}); });
  refuse(invalid, "1 scores for 260 tokens",
         [](GgufBuilder& b) { b.set_numbers<float>("tokenizer.ggml.scores", GgufType::f32, {1}); });
  refuse(invalid, "expected 0 to 6 for token 0, found -1", [](GgufBuilder& b) {
    b.set_numbers<std::int32_t>("tokenizer.ggml.token_type", GgufType::i32, {-1});
  });
  refuse(invalid, "expected 0 to 6 for token 0, found 7", [](GgufBuilder& b) {
    b.set_numbers<std::int32_t>("tokenizer.ggml.token_type", GgufType::i32, {7});
  });
  refuse(invalid, "EOS token 4294967295",
         [](GgufBuilder& b) { b.set("tokenizer.ggml.eos_token_id", GgufType::u64, std::uint64_t{1} << 40); });
  refuse(invalid, "tokenizer.ggml.eos_token_id",
         [](GgufBuilder& b) { b.set("tokenizer.ggml.eos_token_id", GgufType::i32, std::int32_t{-1}); });
  refuse(invalid, "tokenizer.ggml.add_bos_token",
         [](GgufBuilder& b) { b.set("tokenizer.ggml.add_bos_token", "yes"); });
}

TEST_CASE("ids that the vocabulary lacks are ignored with a warning") {
  GgufBuilder b = builder_of(spm_source({"_"}));
  b.set("tokenizer.ggml.eot_token_id", 999u).set("tokenizer.ggml.eom_token_id", 0xffffffffu);
  b.set("tokenizer.ggml.unknown_token_id", GgufType::i32, std::int32_t{-1});
  b.set("tokenizer.ggml.padding_token_id", GgufType::i64, std::int64_t{-1});
  const auto tokenizer = Tokenizer::build(read(b));
  CHECK(tokenizer->warnings().size() == 4);
  CHECK(tokenizer->warnings()[0].find("EOT token 999") != std::string::npos);
}

TEST_CASE("token type 0 is normal") {
  VocabularySource source = spm_source({"_", "a", "_a"});
  for (TokenType& type : source.types)
    if (type == TokenType::normal) type = TokenType::undefined;
  CHECK(pieces_of(*Tokenizer::build(read(builder_of(source))), "a") == "_a");
}

TEST_CASE("a SentencePiece file without special ids has the usual ones") {
  const VocabularySource source = read(builder_of(spm_source({"_"})));
  CHECK(source.unk == 0);
  CHECK(source.bos == 1);
  CHECK(source.eos == 2);
  VocabularySource other = spm_source({"_"});
  other.types[1] = TokenType::normal;
  CHECK_FALSE(read(builder_of(other)).bos);
}

TEST_CASE("what is written reads back") {
  VocabularySource spm = spm_source({"_", "a", "_a"});
  spm.merges = {"\xE2\x96\x81 a"};
  spm.add_bos = false;
  spm.add_space_prefix = true;
  spm.prefix_after_control = spm.prefix_before_space = false;
  spm.remove_extra_whitespaces = true;
  spm.chat_template = "{{ x }}";
  VocabularySource bpe = bpe_source({"ab", "bc", "abc"});
  add_control(bpe, "<|end|>");
  bpe.bos = bpe.eos = 259;
  bpe.eot = 259;
  bpe.extra_eog = {259};
  VocabularySource unnamed = bpe;
  unnamed.pre_tokenizer.clear();
  unnamed.split_expressions = {"\\p{N}", "\\p{N}{1,3}"};
  unnamed.whole_pieces = true;
  unnamed.merges = {"a b"};
  for (const VocabularySource& source : {spm, bpe, unnamed}) {
    GgufFile file = open_bytes(GgufBuilder().build());
    write_vocabulary(source, file);
    const VocabularySource back = read_vocabulary(file);
    CHECK(back.kind == source.kind);
    if (source.kind == TokenizerKind::bpe) CHECK(back.pre_tokenizer == source.pre_tokenizer);
    CHECK(back.tokens == source.tokens);
    CHECK(back.scores == source.scores);
    CHECK(back.types == source.types);
    CHECK(back.split_expressions == source.split_expressions);
    CHECK(back.bos == source.bos);
    CHECK(back.eos == source.eos);
    CHECK(back.eot == source.eot);
    CHECK(back.extra_eog == source.extra_eog);
    CHECK(adds_bos(back) == adds_bos(source));
    CHECK(uses_whole_pieces(back) == uses_whole_pieces(source));
    CHECK(back.add_space_prefix == source.add_space_prefix);
    CHECK(back.prefix_after_control == source.prefix_after_control);
    CHECK(back.prefix_before_space == source.prefix_before_space);
    CHECK(back.remove_extra_whitespaces == source.remove_extra_whitespaces);
    CHECK(back.chat_template == source.chat_template);
    if (!source.merges.empty()) CHECK(back.merges == source.merges);
    for (const char* text : {"abc", " a  a1", "ab bc 12<|end|>"})
      CHECK(encode(*Tokenizer::build(back), text) == encode(*Tokenizer::build(source), text));
  }
}

TEST_CASE("ranks become merges, all the ways to split each token") {
  CHECK(rank_merges(bpe_source({"ab", "bc", "abc"})) ==
        std::vector<std::string>{"a b", "b c", "a bc", "ab c"});
}
