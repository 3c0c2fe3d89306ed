#include "engine/vocabulary_gguf.h"

#include <limits>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

TokenizerKind read_kind(const ModelSource& file) {
  const std::string model = file.get_string("tokenizer.ggml.model");
  if (model == "llama") return TokenizerKind::sentencepiece;
  if (model == "gpt2") return TokenizerKind::bpe;
  throw Error(
      ErrorCode::unsupported_model,
      "tokenizer.ggml.model: expected \"llama\" (SentencePiece) or \"gpt2\" (byte-level BPE), found " +
          quote(model),
      {{"key", "tokenizer.ggml.model"}, {"expected", "llama or gpt2"}, {"found", model}});
}

std::optional<TokenId> read_id(const ModelSource& file, std::string_view key) {
  const std::optional<std::uint64_t> id = file.find_uint(key);
  if (!id) return std::nullopt;
  // A value too large for an id is beyond every vocabulary; Tokenizer::build reports it.
  constexpr TokenId kMaxId = std::numeric_limits<TokenId>::max();
  return *id < kMaxId ? static_cast<TokenId>(*id) : kMaxId;
}

std::vector<std::string> read_strings(const GgufArray& array) {
  std::vector<std::string> strings;
  strings.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) strings.emplace_back(array.string_at(i));
  return strings;
}

std::vector<TokenType> read_types(const GgufArray& array) {
  std::vector<TokenType> types;
  types.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    const std::int64_t type = array.integer_at(i);
    if (type < 1 || type > 6) {
      throw Error(ErrorCode::invalid_model,
                  "tokenizer.ggml.token_type: expected 1 to 6 for token " + std::to_string(i) + ", found " +
                      std::to_string(type),
                  {{"key", "tokenizer.ggml.token_type"}, {"index", i}, {"found", type}});
    }
    types.push_back(static_cast<TokenType>(type));
  }
  return types;
}

}  // namespace

VocabularySource read_vocabulary(const ModelSource& file) {
  VocabularySource source;
  source.kind = read_kind(file);
  source.pre_tokenizer = file.find_string("tokenizer.ggml.pre").value_or("");
  source.tokens = read_strings(file.get_array("tokenizer.ggml.tokens"));
  // The first Llama 3 files predate the key; no other vocabulary has this size.
  constexpr std::size_t kLlama3Tokens = 128256;
  if (source.kind == TokenizerKind::bpe && source.pre_tokenizer.empty() &&
      source.tokens.size() == kLlama3Tokens)
    source.pre_tokenizer = "llama-bpe";
  if (source.kind == TokenizerKind::sentencepiece) {
    const GgufArray& scores = file.get_array("tokenizer.ggml.scores");
    source.scores.reserve(scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i)
      source.scores.push_back(static_cast<float>(scores.number_at(i)));
  } else if (const GgufArray* merges = file.find_array("tokenizer.ggml.merges")) {
    source.merges = read_strings(*merges);
  }
  if (const GgufArray* types = file.find_array("tokenizer.ggml.token_type"))
    source.types = read_types(*types);

  source.bos = read_id(file, "tokenizer.ggml.bos_token_id");
  source.eos = read_id(file, "tokenizer.ggml.eos_token_id");
  source.eot = read_id(file, "tokenizer.ggml.eot_token_id");
  source.unk = read_id(file, "tokenizer.ggml.unknown_token_id");
  // cria never pads, and some files have the id -1: ignored rather than refused.
  source.pad = read_id(file, "tokenizer.ggml.padding_token_id");
  if (source.pad && *source.pad >= source.tokens.size()) source.pad.reset();
  if (const auto eom = read_id(file, "tokenizer.ggml.eom_token_id")) source.extra_eog.push_back(*eom);

  source.add_bos = file.find_bool("tokenizer.ggml.add_bos_token");
  source.add_eos = file.find_bool("tokenizer.ggml.add_eos_token");
  source.add_space_prefix = file.find_bool("tokenizer.ggml.add_space_prefix");
  source.chat_template = file.find_string("tokenizer.chat_template").value_or("");
  return source;
}

}  // namespace cria
