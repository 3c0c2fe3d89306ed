// Text <-> token ids, identical to the reference tokenizers. A tokenizer is immutable: any number of threads
// may call it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/cancel.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// A part of a text, for Tokenizer::encode.
struct TextPiece {
  std::string_view text;  // UTF-8
  bool special = false;   // whether spellings of special tokens in it become those tokens
};

struct EncodeOptions {
  /// Absent: Tokenizer::adds_bos().
  std::optional<bool> bos;
  bool eos = false;
  /// True: spellings of control and user-defined tokens in the text become those tokens, the longest at each
  /// position. False: text never becomes a control token. (SentencePiece treats user-defined pieces as
  /// ordinary text and finds them in either case.)
  bool special = false;
};

class Tokenizer {
 public:
  /// Checks the source and builds the tables. Errors: ERR_INVALID_MODEL (arrays of different lengths, ids
  /// beyond the vocabulary, bad byte tokens, ambiguous duplicates), ERR_UNSUPPORTED_MODEL (a pre-tokenizer
  /// that cria lacks, named).
  static std::shared_ptr<const Tokenizer> build(VocabularySource source);
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  virtual std::uint32_t vocab_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  /// EOS, EOT, EOM, <|end_of_text|> and so on, sorted.
  virtual const std::vector<TokenId>& end_of_generation_ids() const = 0;
  virtual bool adds_bos() const = 0;
  /// SentencePiece: whether encode() puts a space before the text, and after each control token.
  virtual bool adds_space_prefix() const = 0;
  virtual bool adds_prefix_after_control() const = 0;
  /// What was ignored or assumed about the vocabulary, in full sentences.
  virtual const std::vector<std::string>& warnings() const = 0;
  virtual const std::string& chat_template() const = 0;

  /// `text` is UTF-8; malformed bytes are encoded as U+FFFD. BOS is added even to a text that already begins
  /// with its spelling: the caller decides. Errors: ERR_ABORTED when `cancel` is raised during the call,
  /// ERR_INVALID_ARGUMENT (BOS or EOS requested of a vocabulary without one, a text of 1 GiB),
  /// ERR_OUT_OF_MEMORY.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options,
                              const CancelFlag* cancel = nullptr) const {
    const TextPiece piece{text, options.special};
    return encode(std::span<const TextPiece>(&piece, 1), options, cancel);
  }

  /// The same for one text in pieces. The ids are those of the concatenated text (a boundary neither splits a
  /// word nor adds a prefix), except that the spelling of a special token counts only within consecutive
  /// pieces that are `special`. User input inside a rendered chat template therefore remains text. Ignores
  /// `options.special`.
  virtual std::vector<TokenId> encode(std::span<const TextPiece> pieces, const EncodeOptions& options,
                                      const CancelFlag* cancel = nullptr) const = 0;

  // Those that take an id throw ERR_INVALID_ARGUMENT when it is beyond the vocabulary.

  virtual TokenType type(TokenId id) const = 0;

  /// The bytes that a token stands for in running text (SentencePiece: U+2581 as a space). Empty for control
  /// and unknown tokens unless `special`.
  virtual std::string_view token_bytes(TokenId id, bool special) const = 0;

  /// The text of a whole sequence. Drops SentencePiece's dummy prefix (at the start, and after a control
  /// token that is shown) and replaces malformed UTF-8 by U+FFFD (one per maximal ill-formed subpart, like
  /// the WHATWG decoder).
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  /// The id of the token with this exact spelling in the file (e.g. "<|eot_id|>").
  virtual std::optional<TokenId> find(std::string_view spelling) const = 0;
  virtual std::string_view spelling(TokenId id) const = 0;
};

}  // namespace cria
