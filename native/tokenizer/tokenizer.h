// Text <-> token ids, exact to the reference tokenizers. Immutable after building: any number of threads may call it.
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

struct EncodeOptions {
  std::optional<bool> bos;  // absent: as the vocabulary says
  bool eos = false;
  bool special = false;     // true: spellings of control and user-defined tokens in the text become those tokens
};

class Tokenizer {
 public:
  /// Checks the source and builds the tables. Errors: ERR_INVALID_MODEL (short arrays, ids beyond the vocabulary, bad
  /// byte tokens, duplicates that matter, no way to encode a byte), ERR_UNSUPPORTED_MODEL (an unknown splitter, named).
  static std::shared_ptr<const Tokenizer> build(VocabularySource source);
  virtual ~Tokenizer() = default;

  virtual TokenizerKind kind() const = 0;
  virtual std::uint32_t vocab_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual const std::vector<TokenId>& end_of_generation_ids() const = 0;  // eos, eot, eom, <|end_of_text|> ..., sorted
  virtual bool adds_bos() const = 0;
  virtual const std::string& chat_template() const = 0;

  /// `text` is UTF-8; malformed bytes are encoded as U+FFFD. Throws ERR_ABORTED when `cancel` is raised meanwhile.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options,
                                      const CancelFlag* cancel = nullptr) const = 0;

  /// The bytes a token stands for in running text (SentencePiece: U+2581 as a space). Control tokens are empty unless
  /// `special`. Throws ERR_INVALID_ARGUMENT for an id beyond the vocabulary.
  virtual std::string_view token_bytes(TokenId id, bool special) const = 0;

  /// Whole text of a sequence: SentencePiece's dummy-prefix space at the start is dropped, malformed UTF-8 becomes
  /// U+FFFD (one per maximal ill-formed subpart, as the WHATWG decoder does).
  virtual std::string decode(std::span<const TokenId> ids, bool special) const = 0;

  /// Token id by its exact spelling in the file (e.g. "<|eot_id|>").
  virtual std::optional<TokenId> find(std::string_view spelling) const = 0;
  virtual std::string_view spelling(TokenId id) const = 0;
};

}  // namespace cria
