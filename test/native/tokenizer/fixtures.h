// Small handmade vocabularies, and the slow, obvious encoders used as references.
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace cria::test {

inline std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (std::string_view(text).substr(i, from.size()) == from) {
      out += to;
      i += from.size();
    } else {
      out += text[i++];
    }
  }
  return out;
}

/// "_" in pieces is U+2581.
inline std::string piece(std::string_view text) { return replace_all(std::string(text), "_", kSpaceSymbol); }

inline void add_token(VocabularySource& source, std::string token, float score = 0,
                      TokenType type = TokenType::normal) {
  source.tokens.push_back(std::move(token));
  source.scores.push_back(score);
  source.types.push_back(type);
}

/// <unk>, <s>, </s> and the 256 byte tokens, like the beginning of every Llama vocabulary: byte b is token 3
/// + b, and the next token added is 259.
inline VocabularySource spm_source() {
  VocabularySource source;
  add_token(source, "<unk>", 0, TokenType::unknown);
  add_token(source, "<s>", 0, TokenType::control);
  add_token(source, "</s>", 0, TokenType::control);
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    add_token(source, name, 0, TokenType::byte);
  }
  source.bos = 1;
  source.eos = 2;
  source.unk = 0;
  return source;
}

/// Normal pieces in order of preference: each has a score one lower than the one before.
inline VocabularySource spm_source(std::initializer_list<std::string_view> pieces) {
  VocabularySource source = spm_source();
  float score = 0;
  for (std::string_view p : pieces) add_token(source, piece(p), score -= 1);
  return source;
}

/// `bytes` in GPT-2's alphabet.
inline std::string byte_alphabet(std::string_view bytes) {
  std::string out;
  for (char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    std::uint32_t code_point = b;
    if (!printable) {
      code_point = 256;
      for (unsigned i = 0; i < b; ++i)
        code_point += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
    }
    if (code_point < 0x80) {
      out += static_cast<char>(code_point);
    } else {
      out += {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 63))};
    }
  }
  return out;
}

/// The 256 bytes (byte b is token b), then `tokens` given as raw bytes; no merges.
inline VocabularySource bpe_source(const std::vector<std::string>& tokens) {
  VocabularySource source;
  source.kind = TokenizerKind::bpe;
  source.pre_tokenizer = "llama-bpe";
  for (int b = 0; b < 256; ++b) add_token(source, byte_alphabet(std::string(1, static_cast<char>(b))));
  for (const std::string& token : tokens) add_token(source, byte_alphabet(token));
  source.scores.clear();
  return source;
}

inline void add_control(VocabularySource& source, std::string spelling, TokenType type = TokenType::control) {
  source.tokens.push_back(std::move(spelling));
  source.types.push_back(type);
  if (source.kind == TokenizerKind::sentencepiece) source.scores.push_back(0);
}

inline std::vector<TokenId> encode(const Tokenizer& tokenizer, std::string_view text, bool special = false) {
  return tokenizer.encode(text, {.bos = false, .special = special});
}

/// The spellings of the ids of `text`, separated by "|".
inline std::string pieces_of(const Tokenizer& tokenizer, std::string_view text, bool special = false) {
  std::string out;
  for (TokenId id : encode(tokenizer, text, special)) {
    if (!out.empty()) out += '|';
    out += replace_all(std::string(tokenizer.spelling(id)), kSpaceSymbol, "_");
  }
  return out;
}

std::vector<TokenId> reference_spm(const VocabularySource& source, std::string_view text);
/// The pieces of the pre-tokenizer's expressions, taken literally.
std::vector<std::string> reference_split(const VocabularySource& source, std::string_view text);
std::vector<TokenId> reference_bpe(const VocabularySource& source, std::string_view text);

/// `characters` characters, each picked from `alphabet`.
inline std::string random_text(std::mt19937& random, const std::vector<std::string>& alphabet,
                               std::size_t characters) {
  std::string text;
  for (std::size_t i = 0; i < characters; ++i) text += alphabet[random() % alphabet.size()];
  return text;
}

}  // namespace cria::test
