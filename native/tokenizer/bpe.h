// Byte-level BPE, as Llama 3 uses it.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pair_table.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/scratch.h"
#include "tokenizer/text_encoder.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// The pre-tokenizer cuts the text into pieces. The bytes of a piece are merged: the pair of the lowest rank
/// first, the leftmost on ties. Bytes without a token are left out, as Hugging Face's tokenizers does. With
/// `whole_pieces`, a piece that is a token becomes that token without merging (tokenizer.json's
/// ignore_merges); Llama 3's ids are then those of tiktoken (openai/tiktoken, src/lib.rs).
class BpeEncoder final : public TextEncoder {
 public:
  /// Reads the pre-tokenizer and the merges of `source`. Without merges, any two tokens whose union is a
  /// token merge, and the ids are the ranks. Throws ERR_INVALID_MODEL (a bad merge) and ERR_UNSUPPORTED_MODEL
  /// (an unknown pre-tokenizer).
  BpeEncoder(const Vocabulary& vocabulary, const VocabularySource& source);

  void encode(std::string_view text, bool prefix, EncodeRun& run) const override;

 private:
  void add_merges(const std::vector<std::string>& merges);
  void derive_merges();
  void encode_piece(std::string_view piece, EncodeRun& run) const;

  const Vocabulary& vocabulary_;
  const PreTokenizer pre_tokenizer_;
  const bool whole_pieces_;
  PairTable pairs_;
};

/// The merges of a source that has none, as `VocabularySource::merges` lists them: all the ways to split
/// every token in two, by id. Errors: those of Vocabulary.
std::vector<std::string> rank_merges(VocabularySource source);

}  // namespace cria
