// The forward pass of a Llama: five ops a layer, on any backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "model/config.h"
#include "model/weights.h"

namespace cria {

/// One sequence's part of a forward pass: `tokens` stand at positions first_position, first_position + 1, ...
struct DecoderInput {
  std::span<const std::uint32_t> tokens;
  std::int32_t first_position = 0;
  std::span<const std::int32_t> block_table;  // pages, enough for the last position
  bool wants_logits = false;                  // after the last of its tokens
};

struct KvOptions {
  DType dtype = DType::f16;
  std::int32_t n_pages = 0;
};

class Decoder {
 public:
  Decoder(ModelConfig config, std::unique_ptr<Backend> backend, ModelWeights weights, const KvOptions& kv,
          std::int32_t max_batch_tokens, std::int32_t max_sequences);

  /// Runs the inputs as one batch of at most max_batch_tokens tokens. False when `stopped` became true
  /// between two layers: the pages of these positions are then undefined and nothing else has changed.
  bool forward(std::span<const DecoderInput> inputs, const std::function<bool()>& stopped);

  /// Logits of the i-th input that wanted them, [vocab_size]; valid until the next forward.
  std::span<const float> logits(std::size_t i);

  /// The largest logit's token (the lowest id among equals) of the i-th input that wanted logits, chosen on
  /// the backend. Throws ERR_INVALID_MODEL when a logit is NaN or +infinity.
  std::uint32_t greedy_token(std::size_t i);
  /// Chooses those of inputs [first, first + count) together, which costs less; greedy_token() has them then.
  void choose_greedy(std::size_t first, std::size_t count);
  /// Draws a token from each of the first rows.size() logits of the last pass on the device; kNotDrawn where
  /// none can be chosen. False where the device does not draw: then logits() are to be sampled.
  bool draw(std::span<const DrawRow> rows, std::span<std::uint32_t> tokens);

  /// Copies a page of the cache to another one.
  void copy_page(std::int32_t from, std::int32_t to);
  /// Bytes of a page in all layers together.
  std::size_t page_bytes() const { return layer_page_bytes_ * kv_.size(); }
  /// The pages of a sequence of `n_tokens` as bytes, [page][layer][Backend::kv_page_bytes], and back. `bytes`
  /// holds page_bytes() for each page.
  void read_pages(std::span<const std::int32_t> pages, std::int32_t n_tokens, std::span<std::byte> bytes);
  void write_pages(std::span<const std::int32_t> pages, std::span<const std::byte> bytes);

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  const Backend& backend() const { return *backend_; }
  std::int32_t max_batch_tokens() const { return max_batch_tokens_; }
  /// Of a batch, those that want logits.
  std::int32_t max_sequences() const { return max_sequences_; }

 private:
  void build_batch(std::span<const DecoderInput> inputs);
  bool run_ops(const std::function<bool()>& stopped);

  ModelConfig config_;
  std::unique_ptr<Backend> backend_;
  ModelWeights weights_;
  AttentionShape shape_;
  std::vector<KvLayer> kv_;
  std::size_t layer_page_bytes_;
  std::int32_t max_batch_tokens_;
  std::int32_t max_sequences_;

  // The batch, rebuilt in place at each pass.
  Batch batch_;
  std::vector<std::uint32_t> tokens_;
  std::vector<std::int32_t> positions_, sequence_of_, block_table_, logit_rows_;
  std::vector<float> rope_cos_, rope_sin_;

  // By row of logits, as far as they were chosen; else kNotDrawn.
  std::vector<std::uint32_t> greedy_;
  std::vector<float> log_sum_exp_;

  // Activations on the backend, sized for the largest batch.
  float *x_, *q_, *attention_, *h_;
  float *logit_x_, *logit_attention_, *logits_;  // of the rows that get logits
};

/// The shape that attention and the KV cache see.
AttentionShape attention_shape(const ModelConfig& config);

}  // namespace cria
