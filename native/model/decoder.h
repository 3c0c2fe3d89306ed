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

/// One sequence's part of a forward pass: `tokens` are at positions first_position, first_position + 1, ...
struct DecoderInput {
  std::span<const std::uint32_t> tokens;
  std::int32_t first_position = 0;
  // Page ids in order of position, enough for the last one.
  std::span<const std::int32_t> block_table;
  // Logits of the last of `tokens`, and only of that one.
  bool wants_logits = false;
  // In normal form (normalized() in adapter.h). The pages must hold K and V of the same set.
  std::span<const AppliedAdapter> adapters = {};
  // Logits of every one of `tokens`; the rows of a pass are at most max_sequences().
  bool all_logits = false;
};

/// Where a layer's activations meet its matrices.
enum class ActivationPoint {
  attention_input,   // [n, hidden], before the norm: query, key and value
  attention_output,  // [n, n_heads * head_dim]: the output projection
  ffn_input,         // [n, hidden], before the norm: gate and up
  ffn_hidden,        // [n, ffn_hidden]: down
};

/// Sees the activations of every pass, on a backend whose passes call its ops.
class ActivationObserver {
 public:
  virtual ~ActivationObserver() = default;
  /// `rows`: [n, cols], on the host, valid during the call.
  virtual void observe(std::int32_t layer, ActivationPoint point, const float* rows, std::int64_t n,
                       std::int64_t cols) = 0;
};

struct KvOptions {
  DType dtype = DType::f16;
  std::int32_t n_pages = 0;
};

class Decoder {
 public:
  Decoder(ModelConfig config, std::unique_ptr<Backend> backend, ModelWeights weights, const KvOptions& kv,
          std::int32_t max_batch_tokens, std::int32_t max_sequences);

  /// Runs the inputs as one batch of at most max_batch_tokens tokens. False when `stopped` returned true
  /// between two layers: the pages of these positions are then undefined and nothing else has changed.
  bool forward(std::span<const DecoderInput> inputs, const std::function<bool()>& stopped);

  // Row i of the logits belongs to the i-th input with wants_logits; valid until the next forward().

  std::int32_t n_logit_rows() const { return static_cast<std::int32_t>(logit_rows_.size()); }
  /// [vocab_size], on the host; valid until the next call of logits().
  std::span<const float> logits(std::size_t row);
  /// Chooses a token for every row on the backend: an id, or kSampleOnHost. Both spans have n_logit_rows()
  /// elements.
  void sample(std::span<const SampleRow> rows, std::span<std::uint32_t> tokens);

  KvCache& kv() { return *kv_; }

  /// Null: nobody observes. The observer must outlive the passes.
  void observe(ActivationObserver* observer) { observer_ = observer; }

  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }
  const Backend& backend() const { return *backend_; }
  std::int32_t max_batch_tokens() const { return max_batch_tokens_; }
  /// The largest number of sequences in a batch, and so of its rows of logits.
  std::int32_t max_sequences() const { return max_sequences_; }

 private:
  /// Activations of the rows that a layer computes: one per token, or one per row of logits.
  struct Rows {
    std::int32_t n;
    float* x;          // [n, hidden]
    float* attention;  // [n, n_heads * head_dim]
    AdapterRuns adapters;
  };
  void show(std::int32_t layer, ActivationPoint point, const float* rows, std::int64_t n, std::int64_t cols);
  void build_batch(std::span<const DecoderInput> inputs);
  void build_runs(std::span<const DecoderInput> inputs);
  bool run_ops(const std::function<bool()>& stopped);
  void run_layer(std::int32_t layer, Rows& rows);
  void run_ffn(std::int32_t layer, const Rows& rows);
  /// Shrinks `rows` to those that get logits: nothing needs the others after the last layer's attention.
  void gather_logit_rows(std::int32_t layer, Rows& rows);

  ModelConfig config_;
  std::unique_ptr<Backend> backend_;
  ModelWeights weights_;
  AttentionShape shape_;
  std::unique_ptr<KvCache> kv_;
  std::int32_t max_batch_tokens_;
  std::int32_t max_sequences_;
  ActivationObserver* observer_ = nullptr;

  // The batch, rebuilt in place at each pass.
  Batch batch_;
  std::vector<std::uint32_t> tokens_;
  std::vector<std::int32_t> positions_, sequence_of_, block_table_, logit_rows_;
  std::vector<float> rope_cos_, rope_sin_;
  std::vector<AdapterRun> runs_, logit_runs_;  // of all tokens; of the rows that get logits

  // Activations on the backend, sized for the largest batch.
  float *x_, *q_, *attention_;
  float* h_ = nullptr;                           // of an ordinary FFN
  float *logit_x_, *logit_attention_, *logits_;  // of the rows that get logits
};

/// The shape that attention and the KV cache see.
AttentionShape attention_shape(const ModelConfig& config);
ExpertShape expert_shape(const ModelConfig& config);

}  // namespace cria
