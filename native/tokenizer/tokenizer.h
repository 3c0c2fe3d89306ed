// Text <-> token ids, exact to the reference tokenizers. Immutable after building: any number of threads may
// call it.
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
  bool special = false;   // spellings of special tokens in it become those tokens
};

struct EncodeOptions {
  std::optional<bool> bos;  // absent: as the vocabulary says
  bool eos = false;
  /// True: spellings of control and user-defined tokens in the text become those tokens, the longest at each
  /// place. False: control tokens never come out of text. (SentencePiece's user-defined pieces are ordinary
  /// text to it: they are found either way.)
  bool special = false;
};

class Tokenizer {
 public:
  /// Checks the source and builds the tables. Errors: ERR_INVALID_MODEL (short arrays, ids beyond the
  /// vocabulary, bad byte tokens, duplicates that matter, no way to encode a byte), ERR_UNSUPPORTED_MODEL (an
  /// unknown splitter, named).
  static std::shared_ptr<const Tokenizer> build(VocabularySource source);
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  virtual std::uint32_t vocab_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual const std::vector<TokenId>& end_of_generation_ids()
      const = 0;  // eos, eot, eom, <|end_of_text|> ..., sorted
  virtual bool adds_bos() const = 0;
  /// SentencePiece: a space is put before the text, and before what follows a control token.
  virtual bool adds_space_prefix() const = 0;
  virtual const std::string& chat_template() const = 0;

  /// `text` is UTF-8; malformed bytes are encoded as U+FFFD. A text that already begins with the spelling of
  /// BOS still gets another one: that is for the caller to decide. Errors: ERR_ABORTED when `cancel` is
  /// raised meanwhile, ERR_INVALID_ARGUMENT (BOS or EOS asked of a vocabulary without one, a text of 1 GiB),
  /// ERR_OUT_OF_MEMORY.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options,
                              const CancelFlag* cancel = nullptr) const {
    const TextPiece piece{text, options.special};
    return encode(std::span<const TextPiece>(&piece, 1), options, cancel);
  }

  /// The same for one running text in pieces: the ids are those of the pieces put together (a boundary parts
  /// no word and adds no prefix), except that a special token's spelling counts only where it lies within
  /// consecutive pieces that are `special`. So what a user wrote inside a rendered chat template stays text.
  /// `options.special` is not looked at.
  virtual std::vector<TokenId> encode(std::span<const TextPiece> pieces, const EncodeOptions& options,
                                      const CancelFlag* cancel = nullptr) const = 0;

  /// Throws ERR_INVALID_ARGUMENT for an id beyond the vocabulary, as all that follows.
  virtual TokenType type(TokenId id) const = 0;

  /// The bytes a token stands for in running text (SentencePiece: U+2581 as a space). Control and unknown
  /// tokens are empty unless `special`.
  virtual std::string_view token_bytes(TokenId id, bool special) const = 0;

  /// Whole text of a sequence: SentencePiece's dummy-prefix space is dropped (at the start, and after a
  /// control token that is shown), malformed UTF-8 becomes U+FFFD (one per maximal ill-formed subpart, as the
  /// WHATWG decoder does).
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  /// Token id by its exact spelling in the file (e.g. "<|eot_id|>").
  virtual std::optional<TokenId> find(std::string_view spelling) const = 0;
  virtual std::string_view spelling(TokenId id) const = 0;
};

}  // namespace cria
