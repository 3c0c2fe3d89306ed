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

/// Identical to tiktoken (openai/tiktoken, src/lib.rs). The splitter cuts the text into pieces. A piece that
/// is a token becomes that token (tokenizer.json's ignore_merges). The bytes of other pieces are merged: the
/// pair whose union has the lowest rank first, the leftmost on ties.
class BpeEncoder final : public TextEncoder {
 public:
  /// Without `merges`, any two tokens whose union is a token merge, and the ids are the ranks. Throws
  /// ERR_INVALID_MODEL (a bad merge) and ERR_UNSUPPORTED_MODEL (an unknown splitter).
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
