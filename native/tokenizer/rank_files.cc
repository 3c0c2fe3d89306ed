// tiktoken's rank files and Mistral's tekken.json: byte-level BPE in which the ids are the ranks.
#include "tokenizer/rank_files.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"
#include "core/json.h"
#include "tokenizer/base64.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"
#include "tokenizer/vocabulary_files.h"

namespace cria {
namespace {

constexpr std::size_t kMaxRanks = std::size_t{1} << 22;

[[noreturn]] void fail_at(const std::string& name, std::size_t line, const std::string& message) {
  throw Error(ErrorCode::invalid_file, name + ": line " + std::to_string(line) + ": " + message,
              {{"path", name}, {"line", line}});
}

int base64_digit(char c) noexcept {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// Meta's names (llama-models, tokenizer.py); the rest are <|reserved_special_token_2|> and so on.
constexpr std::string_view kLlama3Specials[] = {
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
};
constexpr std::size_t kUsualSpecials = 256;
constexpr std::size_t kMaxSpecials = 1 << 16;

void add_llama3_specials(VocabularySource& source, std::size_t count) {
  const auto ranks = static_cast<TokenId>(source.tokens.size());
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t named = std::size(kLlama3Specials);
    source.tokens.push_back(i < named ? std::string(kLlama3Specials[i])
                                      : "<|reserved_special_token_" + std::to_string(i - named + 2) + "|>");
    source.types.push_back(TokenType::control);
  }
  const auto id = [&](std::size_t i) -> std::optional<TokenId> {
    if (i >= count) return std::nullopt;
    return ranks + static_cast<TokenId>(i);
  };
  source.bos = id(0);
  source.eos = id(1);
  source.eot = id(9);
  if (const auto eom = id(8)) source.extra_eog.push_back(*eom);
}

/// Mistral's names of the special tokens in files that do not list them (mistral-common, tekken.py).
constexpr std::string_view kTekkenSpecials[] = {
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
};

void add_tekken_specials(const JsonValue& root, std::size_t count, VocabularySource& source) {
  source.tokens.resize(count);
  source.types.assign(count, TokenType::control);
  for (std::size_t i = 0; i < count; ++i) {
    source.tokens[i] = i < std::size(kTekkenSpecials) && !root.find("special_tokens")
                           ? std::string(kTekkenSpecials[i])
                           : "<SPECIAL_" + std::to_string(i) + ">";
  }
  if (const auto listed = root.find("special_tokens")) {
    for (const JsonValue& special : listed->elements()) {
      const JsonValue rank = special.get("rank");
      if (rank.as_size() >= count)
        rank.fail("less than " + std::to_string(count), std::to_string(rank.as_size()));
      const std::size_t id = rank.as_size();
      source.tokens[id] = special.get("token_str").as_string();
      const auto control = special.find("is_control");
      if (control && !control->as_bool()) source.types[id] = TokenType::user_defined;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    if (source.tokens[i] == "<s>") source.bos = id;
    if (source.tokens[i] == "</s>") source.eos = id;
    if (source.tokens[i] == "<pad>") source.pad = id;
    if (source.tokens[i] == "<unk>") {
      source.unk = id;
      source.types[i] = TokenType::unknown;
    }
  }
}

}  // namespace

bool decode_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.size() % 4 != 0) return false;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const std::size_t padding = last ? (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=') : 0;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int digit = k < 4 - padding ? base64_digit(text[i + k]) : 0;
      if (digit < 0) return false;
      group = group << 6 | static_cast<std::uint32_t>(digit);
    }
    if ((group & ((1u << (padding * 8)) - 1)) != 0) return false;
    for (std::size_t k = 0; k < 3 - padding; ++k) bytes += static_cast<char>(group >> (16 - 8 * k) & 0xff);
  }
  return true;
}

VocabularySource read_tiktoken_ranks(std::string_view bytes, const std::string& name,
                                     std::optional<std::uint32_t> vocab_size) {
  VocabularySource source;
  source.kind = TokenizerKind::bpe;
  source.pre_tokenizer = "llama-bpe";
  source.add_bos = true;
  source.whole_pieces = true;
  std::string token;
  std::size_t line_number = 0;
  while (!bytes.empty()) {
    ++line_number;
    const std::size_t line_end = std::min(bytes.find('\n'), bytes.size());
    std::string_view line = bytes.substr(0, line_end);
    bytes.remove_prefix(std::min(line_end + 1, bytes.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::size_t space = line.find(' ');
    if (space == line.npos || !decode_base64(line.substr(0, space), token) || token.empty())
      fail_at(name, line_number, "expected a token in base64 and its rank");
    const std::string_view digits = line.substr(space + 1);
    std::uint32_t rank = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() ||
        rank != source.tokens.size()) {
      fail_at(name, line_number,
              "expected the rank " + std::to_string(source.tokens.size()) + ", found \"" +
                  to_well_formed(digits.substr(0, 20)) + '"');
    }
    if (source.tokens.size() == kMaxRanks)
      fail_at(name, line_number, "expected at most " + std::to_string(kMaxRanks) + " tokens");
    append_byte_alphabet(token, source.tokens.emplace_back());
  }
  if (source.tokens.empty()) fail_at(name, 1, "expected a token in base64 and its rank, found an empty file");
  const std::size_t ranks = source.tokens.size();
  if (vocab_size && (*vocab_size < ranks || *vocab_size - ranks > kMaxSpecials)) {
    throw Error(ErrorCode::invalid_model,
                name + ": " + std::to_string(ranks) + " ranks do not fit a vocabulary of " +
                    std::to_string(*vocab_size),
                {{"path", name}, {"ranks", ranks}, {"vocabularySize", *vocab_size}});
  }
  source.types.assign(ranks, TokenType::normal);
  add_llama3_specials(source, vocab_size ? *vocab_size - ranks : kUsualSpecials);
  return source;
}

VocabularySource read_tekken(std::string json, const std::string& name) {
  return read_tekken(JsonDocument::parse(std::move(json), name));
}

VocabularySource read_tekken(const JsonDocument& document) {
  const JsonValue root = document.root(), config = root.get("config"), vocab = root.get("vocab");
  const JsonValue size = config.get("default_vocab_size"), special = config.get("default_num_special_tokens");
  const std::uint64_t n_specials = special.as_size();
  if (n_specials > kMaxSpecials) special.fail("at most 65536", std::to_string(n_specials));
  const std::uint64_t n_tokens = size.as_size();
  if (n_tokens < n_specials || n_tokens - n_specials > vocab.size()) {
    size.fail("from " + std::to_string(n_specials) + " special tokens to those and the " +
                  std::to_string(vocab.size()) + " of the vocabulary",
              std::to_string(n_tokens));
  }
  VocabularySource source;
  source.kind = TokenizerKind::bpe;
  source.add_bos = true;
  source.whole_pieces = true;
  const JsonValue pattern = config.get("pattern");
  const std::string_view known[] = {pattern.as_string()};
  PreTokenizer{known};  // throws if the expression is unknown
  source.pre_tokenizer = "tekken";
  if (find_split_step(known[0]) != find_split_step(find_pre_tokenizer("tekken")->expressions[0]))
    source.split_expressions = {std::string(known[0])};
  add_tekken_specials(root, n_specials, source);
  source.tokens.reserve(n_tokens);
  std::string token;
  for (const JsonValue& entry : vocab.elements()) {
    const std::size_t rank = source.tokens.size() - n_specials;
    if (rank == n_tokens - n_specials) break;
    const JsonValue found = entry.get("rank"), spelled = entry.get("token_bytes");
    if (found.as_size() != rank) found.fail(std::to_string(rank), std::to_string(found.as_size()));
    if (!decode_base64(spelled.as_string(), token) || token.empty())
      spelled.fail("bytes in base64", spelled.as_string().substr(0, 40));
    append_byte_alphabet(token, source.tokens.emplace_back());
  }
  source.types.resize(source.tokens.size(), TokenType::normal);
  return source;
}

}  // namespace cria
