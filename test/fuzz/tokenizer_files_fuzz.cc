// libFuzzer target: the readers of tokenizer.model, rank files, tokenizer.json, tekken.json and
// tokenizer_config.json. A broken file gives a cria::Error; from any other a tokenizer is built, whose ids
// exist and decode. A crash, a leak, a sanitizer report, a slow or memory-hungry input is a failure.
//
//   fuzz_tokenizer_files -write_seeds=corpus
//   fuzz_tokenizer_files -max_total_time=180 -timeout=5 -rss_limit_mb=512 -max_len=16384 corpus

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/tokenizer/tokenizer_files.h"
#include "core/error.h"
#include "tokenizer/vocabulary_files.h"

namespace {

using namespace cria;
using namespace cria::test;

constexpr std::string_view kConfig =
    R"({"bos_token":"<s>","eos_token":{"content":"</s>"},"add_bos_token":true,"chat_template":[{"name":"default","template":"x"}]})";

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, std::string_view bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  };
  VocabularySource pieces;
  add_token(pieces, "<unk>", 0, TokenType::unknown);
  add_token(pieces, "<s>", 0, TokenType::control);
  for (const char* p : {"_", "a", "_a", "ab"}) add_token(pieces, piece(p), -1);
  add_token(pieces, "<0x0A>", 0, TokenType::byte);
  add_token(pieces, "uu", 0, TokenType::unused);
  add_token(pieces, "user", 0, TokenType::user_defined);
  write("sentencepiece", sentencepiece_file(pieces));
  write("sentencepiece-ids", sentencepiece_file(pieces, number_field(3, 2) + number_field(41, 1)));
  write("ranks", "YQ== 0\nYg== 1\nYWI= 2\n");
  write("tekken",
        R"({"config":{"pattern":)" + json_string(kTekkenExpression) +
            R"(,"default_vocab_size":3,"default_num_special_tokens":1},"vocab":[{"rank":0,"token_bytes":)" +
            R"("YQ=="},{"rank":1,"token_bytes":"YWI="}],"special_tokens":[{"rank":0,"token_str":"<s>"}]})");
  TokenizerJson bytes = byte_level_json();
  bytes.vocab = R"({"a":0,"b":1,"ab":2})";
  bytes.added_tokens = R"([{"id":4,"content":"<|end|>","special":true}])";
  write("byte-level", bytes.text());
  TokenizerJson characters = characters_json();
  characters.vocab =
      "{\"<unk>\":0,\"<s>\":1,\"\xE2\x96\x81\":2,\"a\":3,\"\xE2\x96\x81"
      "a\":4,\"<0x41>\":5}";
  characters.merges = "[\"\xE2\x96\x81 a\"]";
  characters.added_tokens = R"([{"id":0,"content":"<unk>","special":true}])";
  write("characters", characters.text());
  characters.normalizer = "null";
  characters.pre_tokenizer =
      "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":"
      "false}";
  write("metaspace", characters.text());
  write("config", kConfig);
}

void require(bool condition) {
  if (!condition) std::abort();
}

void use(VocabularySource source) {
  const auto tokenizer = Tokenizer::build(std::move(source));
  for (const char* text : {"a ab  abba\n12", "\xE4\xB8\xAD\xCC\x81 <s>user<|end|>x", " "}) {
    for (const bool special : {false, true}) {
      const std::vector<TokenId> ids = tokenizer->encode(text, {.bos = false, .special = special});
      for (const TokenId id : ids) require(id < tokenizer->vocab_size());
      require(is_well_formed_utf8(tokenizer->decode(ids, true)));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "-write_seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) != 0) continue;
    write_seeds((*argv)[i] + std::strlen(kOption));
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    VocabularySource source = read_vocabulary_file(bytes, "file");
    apply_tokenizer_config(std::string(kConfig), "config", source);
    use(std::move(source));
  } catch (const Error&) {
    // Expected; any other exception ends the program and is a finding.
  }
  try {
    VocabularySource source = spm_source({"_", "a"});
    apply_tokenizer_config(bytes, "config", source);
    use(std::move(source));
  } catch (const Error&) {
  }
  return 0;
}
