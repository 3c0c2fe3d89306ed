// A model's view of a text: how probable it finds each token, how far it is from another model, and what its
// matrices are multiplied with. Runs the decoder directly, chunk by chunk, without an engine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "convert/importance_matrix.h"
#include "core/cancel.h"
#include "engine/loader.h"

namespace cria {

/// Cuts a text into chunks as llama.cpp's tools do: full chunks without overlap, the rest dropped. Where the
/// vocabulary asks for a BOS token, it takes the place of each chunk's first token.
class TextChunks {
 public:
  /// Throws ERR_INVALID_ARGUMENT for a text of less than one chunk.
  TextChunks(const Tokenizer& tokenizer, const std::string& text, std::int32_t chunk_tokens);

  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()) / chunk_tokens_; }
  std::int32_t chunk_tokens() const { return chunk_tokens_; }
  std::int64_t text_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::vector<TokenId> at(std::int64_t i) const;

 private:
  std::vector<TokenId> tokens_;
  std::int32_t chunk_tokens_;
  std::optional<TokenId> bos_;
};

/// What a chunk's second half adds up to. Its first half is context: with half of 512, tokens 257 to 511
/// count.
struct ChunkScore {
  std::int32_t tokens = 0;
  /// Negative log-likelihoods, and their squares.
  double nll = 0, nll_squares = 0;
  // Against a reference model, if there is one: its own likelihoods, the divergence KL(reference || model) of
  // the tokens' distributions, and how often both prefer the same token.
  double reference_nll = 0;
  double kl = 0, kl_squares = 0, kl_max = 0;
  std::int32_t same_top = 0;
};

/// Scores one chunk. Both models have the same vocabulary (check_same_vocabulary) and a context of at least
/// the chunk. Throws ERR_ABORTED.
ChunkScore score_chunk(Decoder& model, Decoder* reference, std::span<const TokenId> chunk,
                       const CancelFlag& cancel);

/// Throws ERR_INVALID_ARGUMENT unless both models have as many tokens.
void check_same_vocabulary(const Decoder& model, const Decoder& reference);

/// Runs every token of a chunk through every layer, for an observer. Throws ERR_ABORTED.
void run_chunk(Decoder& decoder, std::span<const TokenId> chunk, const CancelFlag& cancel);

/// Adds up what the matrices of a model are multiplied with.
class ImportanceCollector {
 public:
  /// `source`: the model's own, for its norms. Throws ERR_UNSUPPORTED_MODEL for a mixture of experts.
  ImportanceCollector(Decoder& decoder, const ModelSource& source);
  ~ImportanceCollector();

  void add_chunk(std::span<const TokenId> chunk, const CancelFlag& cancel);
  const ImportanceMatrix& matrix() const { return matrix_; }
  ImportanceMatrix& matrix() { return matrix_; }

 private:
  class Observer;

  Decoder& decoder_;
  ImportanceMatrix matrix_;
  std::unique_ptr<Observer> observer_;
};

}  // namespace cria
