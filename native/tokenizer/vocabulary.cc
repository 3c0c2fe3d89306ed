#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"

namespace cria {
namespace {

constexpr std::size_t kMaxTokens = std::size_t{1} << 24;
constexpr std::uint64_t kMaxTotalBytes = std::uint64_t{1} << 31;

/// Spellings of control tokens that end a generation whether or not the metadata names them.
constexpr std::string_view kEndSpellings[] = {
    "</s>",       "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>",         "<|im_end|>", "<|end|>",
    "<|return|>", "<EOT>",      "_<EOT>",          "<|endoftext|>",      "< EOT >",    "<end_of_turn>",
    "<|eot|>",    "<|EOT|>",    "<|end_of_turn|>", "<end_of_utterance>",
};

std::string quoted(std::string_view spelling) {
  constexpr std::size_t kShown = 40;
  const bool cut = spelling.size() > kShown;
  return '"' + to_well_formed(spelling.substr(0, kShown)) + (cut ? "...\"" : "\"");
}

std::string token_name(TokenId id, std::string_view spelling) {
  return "token " + std::to_string(id) + " (" + quoted(spelling) + ")";
}

/// The value of SentencePiece's "<0xHH>" (model_interface.cc, ByteToPiece: exactly two upper-case digits), or
/// -1.
int parse_byte_piece(std::string_view s) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (s.size() != 6 || s.substr(0, 3) != "<0x" || s[5] != '>') return -1;
  const int high = digit(s[3]), low = digit(s[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// Code point -> byte of GPT-2's alphabet, or -1. Printable Latin-1 characters stand for themselves, U+0100
/// and those after it for the other 68 bytes, in order.
constexpr std::array<std::int16_t, 324> make_byte_alphabet() {
  std::array<std::int16_t, 324> byte_of{};
  for (auto& b : byte_of) b = -1;
  int shifted = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    byte_of[static_cast<std::size_t>(printable ? b : shifted++)] = static_cast<std::int16_t>(b);
  }
  return byte_of;
}
constexpr auto kByteOf = make_byte_alphabet();

/// Its inverse.
constexpr std::array<std::uint16_t, 256> make_inverse_alphabet() {
  std::array<std::uint16_t, 256> character_of{};
  for (std::size_t c = 0; c < kByteOf.size(); ++c) {
    if (kByteOf[c] >= 0) character_of[static_cast<std::size_t>(kByteOf[c])] = static_cast<std::uint16_t>(c);
  }
  return character_of;
}
constexpr auto kCharacterOf = make_inverse_alphabet();

const PreTokenizerTraits& traits_of(const VocabularySource& source) noexcept {
  const PreTokenizerTraits* traits = find_pre_tokenizer(source.pre_tokenizer);
  return traits ? *traits : *find_pre_tokenizer(kDefaultPreTokenizer);
}

void warn_of_default(VocabularySource& source) {
  if (source.kind != TokenizerKind::bpe || source.split_expressions) return;
  const std::string& name = source.pre_tokenizer;
  if (name == kDefaultPreTokenizer || find_pre_tokenizer(name)) {
    if (name != kDefaultPreTokenizer) return;
    source.warnings.emplace_back(
        "the pre-tokenizer (tokenizer.ggml.pre) is \"default\", which fits few models");
  } else {
    source.warnings.push_back(
        (name.empty() ? "the file names no pre-tokenizer (tokenizer.ggml.pre)"
                      : "the pre-tokenizer (tokenizer.ggml.pre) " + quoted(name) + " is unknown") +
        "; \"default\" is used, which fits few models");
  }
}

}  // namespace

void throw_invalid_vocabulary(const std::string& message) {
  throw Error(ErrorCode::invalid_model, "tokenizer: " + message);
}

void append_with_spaces(std::string_view text, std::string& out) {
  for (std::size_t i; (i = text.find(kSpaceSymbol)) != text.npos;
       text.remove_prefix(i + kSpaceSymbol.size())) {
    out.append(text.substr(0, i));
    out += ' ';
  }
  out.append(text);
}

bool decode_byte_alphabet(std::string_view text, std::string& bytes) {
  bytes.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::uint32_t code_point = static_cast<unsigned char>(text[i]);
    if (code_point >= 0x80) {
      // The alphabet ends at U+0143: characters have at most two bytes, and C2..C5 are the only lead bytes.
      if (code_point < 0xc2 || code_point > 0xc5 || ++i == text.size() || (text[i] & 0xc0) != 0x80)
        return false;
      code_point = (code_point & 0x1f) << 6 | (text[i] & 0x3f);
    }
    if (code_point >= kByteOf.size() || kByteOf[code_point] < 0) return false;
    bytes += static_cast<char>(kByteOf[code_point]);
  }
  return true;
}

void append_byte_alphabet(std::string_view bytes, std::string& out) {
  for (const char c : bytes) {
    const std::uint32_t code_point = kCharacterOf[static_cast<unsigned char>(c)];
    if (code_point < 0x80) {
      out += static_cast<char>(code_point);
    } else {
      out += {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 63))};
    }
  }
}

std::vector<std::string_view> split_expressions(const VocabularySource& source) {
  if (source.split_expressions) return {source.split_expressions->begin(), source.split_expressions->end()};
  if (is_foreign_pre_tokenizer(source.pre_tokenizer)) {
    throw Error(ErrorCode::unsupported_model,
                "tokenizer: the pre-tokenizer (tokenizer.ggml.pre) " + quoted(source.pre_tokenizer) +
                    " is not supported",
                {{"expected", "the pre-tokenizer of a Llama model"}, {"found", source.pre_tokenizer}});
  }
  const std::span<const std::string_view> expressions = traits_of(source).expressions;
  return {expressions.begin(), expressions.end()};
}

bool uses_whole_pieces(const VocabularySource& source) noexcept {
  return source.whole_pieces.value_or(source.merges.empty() || traits_of(source).whole_pieces);
}

bool adds_bos(const VocabularySource& source) noexcept {
  const bool usual = source.kind == TokenizerKind::sentencepiece || traits_of(source).adds_bos;
  return source.bos && source.add_bos.value_or(usual);
}

Vocabulary::Vocabulary(VocabularySource& source)
    : kind_(source.kind),
      pieces_(source.tokens.size()),
      byte_tokens_(256, kNoToken),
      bos_(source.bos),
      eos_(source.eos) {
  const std::size_t n = source.tokens.size();
  if (n == 0) throw_invalid_vocabulary("the vocabulary has no tokens");
  if (n > kMaxTokens)
    throw_invalid_vocabulary("expected at most " + std::to_string(kMaxTokens) + " tokens, found " +
                             std::to_string(n));
  std::uint64_t total = 0;
  for (const std::string& token : source.tokens) total += token.size();
  if (total > kMaxTotalBytes) {
    throw_invalid_vocabulary("expected tokens of at most " + std::to_string(kMaxTotalBytes) +
                             " bytes in all, found " + std::to_string(total));
  }
  check_ids(source);
  unk_ = source.unk;
  if (kind_ == TokenizerKind::sentencepiece) {
    if (source.scores.size() != n) {
      throw_invalid_vocabulary(std::to_string(source.scores.size()) + " scores for " + std::to_string(n) +
                               " tokens");
    }
    for (std::size_t i = 0; i < n; ++i) {
      if (std::isnan(source.scores[i]))
        throw_invalid_vocabulary("the score of token " + std::to_string(i) + " is not a number");
    }
    scores_ = std::move(source.scores);
  }
  warn_of_default(source);
  assign_types(source);
  spellings_ = std::move(source.tokens);
  bytes_.reserve(n, total);
  if (kind_ == TokenizerKind::sentencepiece) {
    add_sentencepiece_tokens();
  } else {
    add_bpe_tokens();
  }
  collect_end_of_generation(source);
}

void Vocabulary::check_ids(VocabularySource& source) {
  const std::size_t n = source.tokens.size();
  const auto beyond = [&](std::string_view name, TokenId id) {
    return "the " + std::string(name) + " token " + std::to_string(id) + " is beyond the vocabulary of " +
           std::to_string(n);
  };
  const auto require = [&](std::string_view name, std::optional<TokenId> id) {
    if (id && *id >= n) throw_invalid_vocabulary(beyond(name, *id));
  };
  const auto drop = [&](std::string_view name, std::optional<TokenId>& id) {
    if (!id || *id < n) return;
    source.warnings.push_back(beyond(name, *id) + "; it is ignored");
    id.reset();
  };
  require("BOS", source.bos);
  require("EOS", source.eos);
  drop("EOT", source.eot);
  drop("unknown", source.unk);
  drop("padding", source.pad);
  std::erase_if(source.extra_eog, [&](TokenId id) {
    if (id < n) return false;
    source.warnings.push_back(beyond("end-of-generation", id) + "; it is ignored");
    return true;
  });
}

void Vocabulary::assign_types(VocabularySource& source) {
  const std::size_t n = source.tokens.size();
  if (!source.types.empty()) {
    if (source.types.size() != n) {
      throw_invalid_vocabulary(std::to_string(source.types.size()) + " token types for " + std::to_string(n) +
                               " tokens");
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto type = static_cast<unsigned>(source.types[i]);
      if (type > 6)
        throw_invalid_vocabulary("token " + std::to_string(i) + " has the unknown type " +
                                 std::to_string(type));
      if (type == 0) source.types[i] = TokenType::normal;
    }
    types_ = std::move(source.types);
    return;
  }
  // Without types, the special tokens of the metadata are control tokens, and pieces spelled <0xHH> are
  // bytes.
  types_.assign(n, TokenType::normal);
  if (kind_ == TokenizerKind::sentencepiece) {
    for (std::size_t i = 0; i < n; ++i) {
      if (parse_byte_piece(source.tokens[i]) >= 0) types_[i] = TokenType::byte;
    }
  }
  for (const std::optional<TokenId>& id : {source.bos, source.eos, source.eot, source.pad}) {
    if (id) types_[*id] = TokenType::control;
  }
  for (TokenId id : source.extra_eog) types_[id] = TokenType::control;
  if (source.unk) types_[*source.unk] = TokenType::unknown;
}

void Vocabulary::index_piece(TokenId id) {
  if (pieces_.insert(bytes_, id)) return;
  const TokenId first = pieces_.find(bytes_, bytes_[id]);
  // Two user-defined spellings that differ only in U+2581 and space stand for the same text: the first one is
  // used.
  if (spellings_[first] == spellings_[id]) {
    throw_invalid_vocabulary("tokens " + std::to_string(first) + " and " + std::to_string(id) + " are both " +
                             quoted(spellings_[id]));
  }
  others_.emplace(spellings_[id], id);
}

void Vocabulary::add_sentencepiece_tokens() {
  std::string bytes;
  for (TokenId id = 0; id < spellings_.size(); ++id) {
    const std::string& spelling = spellings_[id];
    bytes.clear();
    switch (types_[id]) {
      case TokenType::byte: {
        const int value = parse_byte_piece(spelling);
        if (value < 0)
          throw_invalid_vocabulary(token_name(id, spelling) + " has type byte but is not spelled <0xHH>");
        if (byte_tokens_[value] != kNoToken) {
          throw_invalid_vocabulary("tokens " + std::to_string(byte_tokens_[value]) + " and " +
                                   std::to_string(id) + " are both " + spelling);
        }
        byte_tokens_[value] = id;
        bytes.push_back(static_cast<char>(value));
        bytes_.add(bytes);
        others_.emplace(spelling, id);
        continue;
      }
      case TokenType::control:
      case TokenType::unknown:
        bytes_.add(spelling);
        others_.emplace(spelling, id);
        continue;
      case TokenType::undefined:
      case TokenType::normal:
      case TokenType::user_defined:
      case TokenType::unused:
        append_with_spaces(spelling, bytes);
        bytes_.add(bytes);
        // SentencePiece's text has U+2581 in place of spaces, so a piece that contains a space never matches;
        // neither does one that is not UTF-8. User-defined pieces are matched in the original text, as in
        // llama.cpp.
        if (!spelling.empty() && is_well_formed_utf8(spelling) &&
            (types_[id] == TokenType::user_defined || spelling.find(' ') == spelling.npos)) {
          index_piece(id);
        } else {
          others_.emplace(spelling, id);
        }
    }
  }
}

void Vocabulary::add_bpe_tokens() {
  std::string bytes;
  for (TokenId id = 0; id < spellings_.size(); ++id) {
    const std::string& spelling = spellings_[id];
    const bool piece = types_[id] == TokenType::normal || types_[id] == TokenType::byte;
    if (!piece || spelling.empty()) {  // files store control and added tokens as literal text
      bytes_.add(spelling);
      others_.emplace(spelling, id);
      continue;
    }
    // Merging never gives a token that is written in other characters; it stands for its spelling.
    if (!decode_byte_alphabet(spelling, bytes)) {
      bytes_.add(spelling);
      others_.emplace(spelling, id);
      continue;
    }
    bytes_.add(bytes);
    index_piece(id);
    if (bytes.size() == 1) byte_tokens_[static_cast<unsigned char>(bytes[0])] = id;
  }
}

void Vocabulary::collect_end_of_generation(const VocabularySource& source) {
  std::vector<TokenId>& ids = end_of_generation_;
  ids = source.extra_eog;
  if (source.eos) ids.push_back(*source.eos);
  if (source.eot) ids.push_back(*source.eot);
  for (std::string_view spelling : kEndSpellings) {
    const auto found = others_.find(spelling);
    if (found != others_.end() && types_[found->second] == TokenType::control) ids.push_back(found->second);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

std::optional<TokenId> Vocabulary::find_piece(std::string_view bytes) const noexcept {
  const std::uint32_t id = pieces_.find(bytes_, bytes);
  if (id == StringIndex::kAbsent) return std::nullopt;
  return id;
}

std::optional<TokenId> Vocabulary::find(std::string_view spelling) const {
  if (const auto found = others_.find(spelling); found != others_.end()) return found->second;
  std::string bytes;
  if (kind_ == TokenizerKind::sentencepiece) {
    append_with_spaces(spelling, bytes);
  } else if (!decode_byte_alphabet(spelling, bytes)) {
    return std::nullopt;
  }
  const std::optional<TokenId> id = find_piece(bytes);
  if (!id || spellings_[*id] != spelling) return std::nullopt;
  return id;
}

}  // namespace cria
