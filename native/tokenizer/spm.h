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

/// Identical to google/sentencepiece, src/bpe_model.cc, with Llama's normalizer (identity; white space is
/// neither removed nor collapsed, unless the source says so). A dummy space is put before the text. The text
/// is cut into user-defined pieces (the longest at each position, never merged) and characters. Characters
/// merge into the piece of the highest score, the leftmost on ties. Unused pieces take part in the merging
/// and are split again at the end, into the halves they were last seen as. Characters without a piece become
/// byte tokens, or the unknown token where the vocabulary lacks those.
///
/// Two properties of a vocabulary, computed when it is loaded, make encoding fast. If no piece has a space
/// after another character, words are independent. If no piece contains two characters side by side, the text
/// can be cut between these characters.
class SpmEncoder final : public TextEncoder {
 public:
  /// If `source` has merges, only these pairs merge, in that order in place of the scores. Throws
  /// ERR_INVALID_MODEL: a bad merge, or unreasonably many.
  SpmEncoder(const Vocabulary& vocabulary, const VocabularySource& source);

  void encode(std::string_view text, bool prefix, EncodeRun& run) const override;

 private:
  // A symbol of the merge loop is
  //   a token id;
  //   from the size of the vocabulary on, a character that is part of a piece but not a piece itself;
  //   with kUnmergeable, the offset in the text of a character that is in no piece;
  //   with kUnmergeable and kFrozen, a user-defined token.
  static constexpr std::uint32_t kFrozen = 0x40000000;
  static constexpr std::uint32_t kNoSymbol = 0xffffffff;

  bool is_mergeable(TokenId id) const noexcept;
  void rank_pieces();
  std::uint32_t symbol_for(std::string_view character);
  void add_characters();
  void add_neighbours(TokenId id);
  void add_pairs();
  void add_merges(const std::vector<std::string>& merges);
  std::uint32_t find_half(std::string_view half, std::uint64_t hash) const noexcept;

  void encode_spaced(std::string_view text, bool prefix, EncodeRun& run) const;
  void encode_words(std::string_view text, EncodeRun& run) const;
  void encode_word(std::string_view word, EncodeRun& run) const;
  void encode_short(std::string_view word, EncodeRun& run) const;
  void encode_with_unused(std::string_view text, EncodeRun& run) const;
  void push_symbols(std::string_view text, std::size_t base, std::vector<std::uint32_t>& symbols) const;
  void merge_run(std::string_view text, EncodeRun& run) const;
  void emit(std::uint32_t symbol, std::string_view text, std::vector<TokenId>& out) const;
  void emit_bytes(std::string_view bytes, std::vector<TokenId>& out) const;

  const Vocabulary& vocabulary_;
  const bool prefix_before_space_;
  const bool remove_extra_whitespaces_;
  bool words_independent_ = true;
  bool has_unused_ = false;
  bool lacks_bytes_ = false;
  std::vector<std::uint32_t> rank_;  // by token id: 0 for the highest score
  CodePointMap symbol_of_{kNoSymbol};
  StringList part_characters_;  // by symbol - vocabulary size
  PairTable pairs_;
  PairTable neighbours_;  // pairs of characters that are side by side in a piece; only the keys matter
  SpellingMatcher user_defined_;
};

}  // namespace cria
