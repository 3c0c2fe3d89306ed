// SentencePiece's BPE, as Llama 1 and 2 use it.
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer/code_point_map.h"
#include "tokenizer/pair_table.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/text_encoder.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// Exactly google/sentencepiece, src/bpe_model.cc, with the normalizer of Llama (identity; no white space
/// removed or collapsed): the text, led by a dummy space, is cut into user-defined pieces (the longest at
/// each place, never merged) and characters; characters merge to the piece of the highest score, the leftmost
/// on ties; unused pieces take part, but are cut again at the end the way they were last found; characters
/// without a piece become their bytes.
///
/// Two properties of a vocabulary make this fast where they hold, and are computed, not assumed. When no
/// piece goes on with a space after something else, words are independent. When no piece holds two characters
/// side by side, the text can be cut between them.
class SpmEncoder final : public TextEncoder {
 public:
  /// Throws ERR_INVALID_MODEL when the pieces have unreasonably many ways to merge.
  SpmEncoder(const Vocabulary& vocabulary, bool add_space_prefix);

  void encode(std::string_view text, EncodeRun& run) const override;

 private:
  // Symbols of the merge loop: a token id; above the vocabulary, a character that is no piece but part of
  // some; with kUnmergeable, the offset of a character that no piece has, or (kFrozen) a user-defined token.
  static constexpr std::uint32_t kFrozen = 0x40000000;
  static constexpr std::uint32_t kNoSymbol = 0xffffffff;

  bool is_mergeable(TokenId id) const noexcept;
  void rank_pieces();
  std::uint32_t symbol_for(std::string_view character);
  void add_characters();
  void add_pairs();
  std::uint32_t find_half(std::string_view half, std::uint64_t hash) const noexcept;

  void encode_words(std::string_view text, EncodeRun& run) const;
  void encode_word(std::string_view word, EncodeRun& run) const;
  void encode_short(std::string_view word, EncodeRun& run) const;
  void encode_with_unused(std::string_view text, EncodeRun& run) const;
  void push_symbols(std::string_view text, std::size_t base, std::vector<std::uint32_t>& symbols) const;
  void merge_run(std::string_view text, EncodeRun& run) const;
  void emit(std::uint32_t symbol, std::string_view text, std::vector<TokenId>& out) const;
  void emit_bytes(std::string_view bytes, std::vector<TokenId>& out) const;

  const Vocabulary& vocabulary_;
  const bool add_space_prefix_;
  bool words_independent_ = true;
  bool has_unused_ = false;
  std::vector<std::uint32_t> rank_;  // by token id: 0 for the highest score
  CodePointMap symbol_of_{kNoSymbol};
  StringList part_characters_;  // by symbol - vocabulary size
  PairTable pairs_;
  PairTable neighbours_;  // characters that some piece holds side by side; only the keys matter
  SpellingMatcher user_defined_;
};

}  // namespace cria
