#include "engine/vocabulary_gguf.h"

#include <limits>

#include "core/error.h"
#include "io/file_error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pretokenize.h"

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

// Keys of cria alone, for what GGUF's own cannot say. Other software ignores them.
constexpr std::string_view kSplitExpressions = "tokenizer.cria.split_expressions";
constexpr std::string_view kWholePieces = "tokenizer.cria.whole_pieces";
constexpr std::string_view kMergesAreRanks = "tokenizer.cria.merges_are_ranks";
constexpr std::string_view kPrefixAfterControl = "tokenizer.cria.prefix_after_control";
constexpr std::string_view kPrefixBeforeSpace = "tokenizer.cria.prefix_before_space";
// Not GGUF's own, which llama.cpp ignores for SentencePiece.
constexpr std::string_view kRemoveExtraSpaces = "tokenizer.cria.remove_extra_whitespaces";

std::optional<TokenId> read_id(const ModelSource& file, std::string_view key) {
  const std::optional<std::uint64_t> id = file.find_uint(key);
  if (!id) return std::nullopt;
  // A value too large for an id is beyond every vocabulary; Tokenizer::build reports it.
  constexpr TokenId kMaxId = std::numeric_limits<TokenId>::max();
  return *id < kMaxId ? static_cast<TokenId>(*id) : kMaxId;
}

/// The same where the id may be missing in the vocabulary: -1 is such an id too.
std::optional<TokenId> read_optional_id(const ModelSource& file, std::string_view key) {
  const GgufValue* value = file.find(key);
  const auto* number = value ? std::get_if<std::int64_t>(value) : nullptr;
  if (number && *number < 0) return kNoToken;
  return read_id(file, key);
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
    if (type < 0 || type > 6) {
      throw Error(ErrorCode::invalid_model,
                  "tokenizer.ggml.token_type: expected 0 to 6 for token " + std::to_string(i) + ", found " +
                      std::to_string(type),
                  {{"key", "tokenizer.ggml.token_type"}, {"index", i}, {"found", type}});
    }
    types.push_back(static_cast<TokenType>(type));
  }
  return types;
}

/// The ids of SentencePiece, which llama.cpp assumes where a file has none.
void set_usual_ids(VocabularySource& source) {
  const auto set = [&](std::optional<TokenId>& id, TokenId usual, TokenType type) {
    if (!id && usual < source.types.size() && source.types[usual] == type) id = usual;
  };
  set(source.unk, 0, TokenType::unknown);
  set(source.bos, 1, TokenType::control);
  set(source.eos, 2, TokenType::control);
}

std::vector<std::int32_t> type_numbers(const std::vector<TokenType>& types) {
  std::vector<std::int32_t> numbers;
  numbers.reserve(types.size());
  for (const TokenType type : types) numbers.push_back(static_cast<std::int32_t>(type));
  return numbers;
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
  }
  const bool reads_merges =
      source.kind == TokenizerKind::bpe || file.find_bool(kMergesAreRanks).value_or(false);
  const GgufArray* merges = file.find_array("tokenizer.ggml.merges");
  if (reads_merges && merges) source.merges = read_strings(*merges);
  if (const GgufArray* types = file.find_array("tokenizer.ggml.token_type"))
    source.types = read_types(*types);

  source.bos = read_id(file, "tokenizer.ggml.bos_token_id");
  source.eos = read_id(file, "tokenizer.ggml.eos_token_id");
  source.eot = read_optional_id(file, "tokenizer.ggml.eot_token_id");
  source.unk = read_optional_id(file, "tokenizer.ggml.unknown_token_id");
  source.pad = read_optional_id(file, "tokenizer.ggml.padding_token_id");
  if (const auto eom = read_optional_id(file, "tokenizer.ggml.eom_token_id"))
    source.extra_eog.push_back(*eom);
  if (source.kind == TokenizerKind::sentencepiece) set_usual_ids(source);

  source.add_bos = file.find_bool("tokenizer.ggml.add_bos_token");
  source.add_eos = file.find_bool("tokenizer.ggml.add_eos_token");
  source.add_space_prefix = file.find_bool("tokenizer.ggml.add_space_prefix");
  source.chat_template = file.find_string("tokenizer.chat_template").value_or("");

  if (const GgufArray* expressions = file.find_array(kSplitExpressions))
    source.split_expressions = read_strings(*expressions);
  source.whole_pieces = file.find_bool(kWholePieces);
  source.prefix_after_control = file.find_bool(kPrefixAfterControl).value_or(true);
  source.prefix_before_space = file.find_bool(kPrefixBeforeSpace).value_or(true);
  source.remove_extra_whitespaces = file.find_bool(kRemoveExtraSpaces).value_or(false);
  return source;
}

void write_vocabulary(const VocabularySource& source, ModelSource& file) {
  const bool bpe = source.kind == TokenizerKind::bpe;
  const auto set_string = [&](std::string key, std::string value) {
    file.set_metadata(std::move(key), GgufType::string, std::move(value));
  };
  const auto set_strings = [&](std::string key, const std::vector<std::string>& values) {
    GgufArray array = GgufArray::of(key, values);
    file.set_metadata(std::move(key), GgufType::array, std::move(array));
  };
  const auto set_id = [&](std::string key, std::optional<TokenId> id) {
    if (id) file.set_metadata(std::move(key), GgufType::u32, std::uint64_t{*id});
  };
  const auto set_bool = [&](std::string_view key, std::optional<bool> value) {
    if (value) file.set_metadata(std::string(key), GgufType::boolean, *value);
  };
  set_string("tokenizer.ggml.model", bpe ? "gpt2" : "llama");
  if (const std::string pre = bpe ? source.pre_tokenizer : "default"; !pre.empty())
    set_string("tokenizer.ggml.pre", pre);
  set_strings("tokenizer.ggml.tokens", source.tokens);
  if (!bpe) {
    GgufArray scores = GgufArray::of("tokenizer.ggml.scores", std::span<const float>(source.scores));
    file.set_metadata("tokenizer.ggml.scores", GgufType::array, std::move(scores));
  }
  if (!source.types.empty()) {
    const std::vector<std::int32_t> types(type_numbers(source.types));
    GgufArray array = GgufArray::of("tokenizer.ggml.token_type", std::span<const std::int32_t>(types));
    file.set_metadata("tokenizer.ggml.token_type", GgufType::array, std::move(array));
  }
  const std::vector<std::string> merges = bpe && source.merges.empty() ? rank_merges(source) : source.merges;
  if (!merges.empty()) set_strings("tokenizer.ggml.merges", merges);
  set_id("tokenizer.ggml.bos_token_id", source.bos);
  set_id("tokenizer.ggml.eos_token_id", source.eos);
  set_id("tokenizer.ggml.eot_token_id", source.eot);
  set_id("tokenizer.ggml.unknown_token_id", source.unk);
  set_id("tokenizer.ggml.padding_token_id", source.pad);
  if (!source.extra_eog.empty()) set_id("tokenizer.ggml.eom_token_id", source.extra_eog.front());
  set_bool("tokenizer.ggml.add_bos_token", adds_bos(source));
  set_bool("tokenizer.ggml.add_eos_token", source.add_eos);
  set_bool("tokenizer.ggml.add_space_prefix", bpe ? std::nullopt : source.add_space_prefix);
  if (!source.chat_template.empty()) set_string("tokenizer.chat_template", source.chat_template);

  if (source.split_expressions) set_strings(std::string(kSplitExpressions), *source.split_expressions);
  if (bpe) {
    const PreTokenizerTraits* traits = find_pre_tokenizer(source.pre_tokenizer);
    const bool usual = traits && traits->whole_pieces;
    if (uses_whole_pieces(source) != usual) set_bool(kWholePieces, !usual);
    return;
  }
  if (source.remove_extra_whitespaces) set_bool(kRemoveExtraSpaces, true);
  if (!source.merges.empty()) set_bool(kMergesAreRanks, true);
  if (!source.prefix_after_control) set_bool(kPrefixAfterControl, false);
  if (!source.prefix_before_space) set_bool(kPrefixBeforeSpace, false);
}

}  // namespace cria
