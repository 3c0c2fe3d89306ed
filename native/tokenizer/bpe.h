// Llama 3's byte-level BPE.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pair_table.h"
#include "tokenizer/scratch.h"
#include "tokenizer/text_encoder.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// Exactly tiktoken (openai/tiktoken, src/lib.rs): the text is cut by the splitter; a piece that is itself a
/// token is taken whole (tokenizer.json's ignore_merges); of the others the bytes are merged, the pair whose
/// union has the lowest rank first, the leftmost on ties.
class BpeEncoder final : public TextEncoder {
 public:
  /// Without merges any two tokens merge whose union is a token, and the ids are the ranks.
  /// Throws ERR_INVALID_MODEL (a bad merge), ERR_UNSUPPORTED_MODEL (an unknown splitter).
  BpeEncoder(const Vocabulary& vocabulary, std::string_view splitter, const std::vector<std::string>& merges);

  void encode(std::string_view text, EncodeRun& run) const override;

 private:
  void add_merges(const std::vector<std::string>& merges);
  void derive_merges();
  void encode_piece(std::string_view piece, EncodeRun& run) const;

  const Vocabulary& vocabulary_;
  PairTable pairs_;
};

}  // namespace cria
