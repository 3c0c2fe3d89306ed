// The ops that the decoder calls, implemented by every backend.
//
// Pointers are in the backend's memory (the host's for "cpu"). Activations are float32, row-major, one row
// per token of the batch, without padding between rows. No argument may alias another unless its comment says
// so. The order of summation is part of each op's contract (docs/numerics.md): a row gives the same bits
// alone or in a batch, with any number of threads, at every instruction-set level of the backend.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace cria {

/// A matrix of weights as a backend keeps it: [rows, cols], row r yields the r-th output. A vector has rows
/// == 1. Only the backend that made it may read `data` and `layout`.
///
/// The product of a row and x is scale * (W · x) + bias: the sum, then one multiplication, then one addition,
/// each rounded to float32. A scale of 1 and an absent bias take no step.
struct Weight {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  // How the rows lie in memory: an enumerator of the backend's own.
  std::uint8_t layout = 0;
  // Of the whole matrix.
  float scale = 1;
  // f32 [rows], in the backend's memory; null: none.
  const float* bias = nullptr;
};

/// One expert of a mixture: an FFN of its own. The experts of a layer agree in types and shapes.
struct ExpertWeights {
  Weight gate, up;  // [ffn_hidden, hidden]; may be fused as those of a layer
  Weight down;      // [hidden, ffn_hidden]
};

struct LayerWeights {
  Weight attention_norm;     // f32 [hidden]
  Weight query, key, value;  // query [n_heads * head_dim, hidden]; others [n_kv_heads * head_dim, hidden]
  Weight attention_output;   // [hidden, n_heads * head_dim]
  Weight ffn_norm;           // f32 [hidden]
  Weight gate, up;  // [ffn_hidden, hidden]; a backend may fuse the two into one matrix (Weight::layout)
  Weight down;      // [hidden, ffn_hidden]
  // A mixture of experts has these instead of gate, up and down.
  Weight router{};                       // [n_experts, hidden]
  std::vector<ExpertWeights> experts{};  // empty: an ordinary FFN
};

/// The largest number of experts of a layer: llama.cpp's limit.
inline constexpr std::int32_t kMaxExperts = 512;

/// The shape of a mixture of experts, the same for all layers.
struct ExpertShape {
  // 0: the model has none; at most kMaxExperts.
  std::int32_t n_experts = 0;
  // Experts that a token uses: 1 to n_experts.
  std::int32_t n_used = 0;
  std::int64_t hidden = 0, ffn_hidden = 0;
  friend bool operator==(const ExpertShape&, const ExpertShape&) = default;
};

/// The matrices of a layer that an adapter may change.
enum class Projection : std::uint8_t { query, key, value, attention_output, gate, up, down };
inline constexpr std::size_t kProjections = 7;

/// What an adapter adds to one matrix W [rows, cols]: y += scale · B (A x). LoRA: Hu et al. 2021. A without
/// rows: nothing.
struct LowRank {
  Weight a;         // f32 [rank, cols]
  Weight b;         // f32 [rows, rank]
  float scale = 0;  // the adapter's own: alpha / rank, or alpha / sqrt(rank)
};

/// An adapter's part of one layer, by Projection.
struct AdapterLayer {
  std::array<LowRank, kProjections> low_rank;
  const LowRank& of(Projection projection) const { return low_rank[static_cast<std::size_t>(projection)]; }
};

/// Consecutive rows of an op's activations to which an adapter applies.
struct AdapterRun {
  const AdapterLayer* layers = nullptr;  // [n_layers]
  float scale = 1;                       // the request's
  std::int32_t first_row = 0;
  std::int32_t n_rows = 0;
};

/// The adapters of an op's rows: none costs nothing. A projection first computes its products as without
/// adapters. Then each run, in order, adds to y of its rows: u = A x, with x as float32 and not quantized;
/// y += (scale of both) · (B u). Both are products with f32 weights in their order of summation, and the
/// scales are multiplied first. So a row's bits depend on its own runs alone.
struct AdapterRuns {
  const AdapterRun* runs = nullptr;
  std::int32_t n = 0;

  bool change(std::int32_t layer, Projection projection) const {
    for (std::int32_t i = 0; i < n; i++)
      if (runs[i].layers[layer].of(projection).a.rows > 0) return true;
    return false;
  }
};

/// The shape of attention, the same for all layers.
struct AttentionShape {
  std::int32_t n_heads = 0;
  // Divides n_heads: 1 is multi-query, n_heads is multi-head attention.
  std::int32_t n_kv_heads = 0;
  // Even.
  std::int32_t head_dim = 0;
  // Leading dimensions of a head that are rotated; even, at most head_dim.
  std::int32_t rope_dim = 0;
  // RoPE rotates pairs (i, i + rope_dim / 2), as GPT-NeoX does, not (2i, 2i + 1).
  bool rope_half_layout = false;
  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

/// One layer's slice of the paged KV cache. A page holds `page_tokens` positions of one sequence; its inner
/// layout is the backend's own.
struct KvLayer {
  std::byte* pages = nullptr;   // page p starts at pages + p * page_stride
  std::size_t page_stride = 0;  // bytes
  DType dtype = DType::f16;     // f16 or f32
  std::int32_t page_tokens = 0;
};

/// Tokens of one or more sequences for one forward pass. Tokens of a sequence are consecutive and in order.
/// The arrays are on the host; a backend with memory of its own copies them in Passes::begin().
struct Batch {
  std::int32_t n_tokens = 0;
  std::int32_t n_sequences = 0;
  // [n_tokens] ids, checked against the vocabulary
  const std::uint32_t* tokens = nullptr;
  // [n_tokens] position within the sequence
  const std::int32_t* positions = nullptr;
  // [n_tokens] row of the block table
  const std::int32_t* sequence_of = nullptr;
  // [n_sequences, block_table_stride] page ids, in order of position
  const std::int32_t* block_table = nullptr;
  std::int32_t block_table_stride = 0;
  // [n_tokens, rope_dim / 2]
  const float* rope_cos = nullptr;
  const float* rope_sin = nullptr;
};

/// x[t, :] = row tokens[t] of the embedding, as float32.
struct EmbedArgs {
  const Batch* batch;
  Weight embedding;  // [vocab, hidden]
  float* x;          // out [n_tokens, hidden]
};

/// q, k, v = RMSNorm(x) · Wᵀ and what the adapters add; RoPE on q and k; k and v appended to their pages at
/// each token's position.
/// RMSNorm: Zhang & Sennrich 2019; RoPE: Su et al. 2021.
struct AttentionInputArgs {
  const Batch* batch;
  const LayerWeights* weights;
  AttentionShape shape;
  float rms_norm_eps;
  const float* x;  // [n_tokens, hidden]
  KvLayer kv;      // k and v are written here
  float* q;        // out [n_tokens, n_heads * head_dim]
  std::int32_t layer = 0;
  AdapterRuns adapters = {};
};

/// Causal grouped-query attention over the pages: token t attends to positions 0 .. positions[t] of its
/// sequence. GQA: Ainslie et al. 2023; paged KV: Kwon et al. 2023; online softmax: Milakov & Gimelshein 2018.
struct PagedAttentionArgs {
  const Batch* batch;
  AttentionShape shape;
  const float* q;  // [n_tokens, n_heads * head_dim]
  KvLayer kv;
  float* out;  // [n_tokens, n_heads * head_dim]; must not alias q
  std::int32_t layer = 0;
};

/// x += h · Wᵀ and what the adapters add: the output projection of attention, and the down projection of the
/// FFN.
struct ProjectResidualArgs {
  std::int32_t n_tokens;  // the batch's, or the pass's n_logit_rows after gather_rows
  Weight weight;          // [hidden, cols]
  const float* h;         // [n_tokens, cols]
  float* x;               // in and out [n_tokens, hidden]
  std::int32_t layer = 0;
  Projection projection = Projection::attention_output;  // or down
  AdapterRuns adapters = {};
};

/// h = SiLU(n · Wgateᵀ) ⊙ (n · Wupᵀ) with n = RMSNorm(x); what the adapters add to either product comes
/// before SiLU and ⊙. SwiGLU: Shazeer 2020.
struct SwigluArgs {
  std::int32_t n_tokens;  // as in ProjectResidualArgs
  const LayerWeights* weights;
  float rms_norm_eps;
  const float* x;  // [n_tokens, hidden]
  float* h;        // out [n_tokens, ffn_hidden]
  std::int32_t layer = 0;
  AdapterRuns adapters = {};
};

/// x += sum over the token's experts e of w[e] · E_e(n), with n = RMSNorm(x) and E_e the FFN of expert e:
/// (SiLU(n · Wgateᵀ) ⊙ (n · Wupᵀ)) · Wdownᵀ. The router chooses: p = softmax(n · Wrouterᵀ) over all experts;
/// the token's experts are the n_used of the largest p, the lower index among equals; w[e] is p[e] divided by
/// the sum of the chosen ones. Both sums run from the largest p to the smallest. A token whose p is NaN
/// becomes NaN. Mixtral: Jiang et al. 2024; sparsely gated experts: Shazeer et al. 2017.
struct ExpertsArgs {
  std::int32_t n_tokens;  // as in ProjectResidualArgs
  const LayerWeights* weights;
  ExpertShape shape;
  float rms_norm_eps;
  float* x;  // in and out [n_tokens, hidden]
  std::int32_t layer = 0;
};

/// to[i, :] = from[rows[i], :]. In the last layer, after attention: only the rows that get logits continue.
struct GatherRowsArgs {
  std::int32_t n_rows;       // the pass's n_logit_rows
  const std::int32_t* rows;  // [n_rows] tokens of the batch: the pass's logit_rows, on the host
  std::int64_t cols;
  const float* from;  // [n_tokens, cols]
  float* to;          // out [n_rows, cols]
  std::int32_t layer = 0;
};

/// logits[i, :] = RMSNorm(x[i, :]) · Woutᵀ.
struct LogitsArgs {
  std::int32_t n_rows;  // the pass's n_logit_rows
  Weight norm;          // f32 [hidden]
  Weight output;        // [vocab, hidden]
  float rms_norm_eps;
  const float* x;  // [n_rows, hidden]
  float* logits;   // out [n_rows, vocab]
};

/// How one row of logits becomes a token: the part of SamplingParams (sampler/params.h) that needs nothing
/// but the logits.
struct SampleRow {
  // The row needs more than the logits (a history, a bias, log-probabilities), or no token: the backend skips
  // it and answers kSampleOnHost.
  bool on_host = false;
  double temperature = 0;  // 0: greedy, the lowest id among equals
  std::int32_t top_k = 0;  // 0: off
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off
  std::uint64_t seed = 0;
  // Of the token to be chosen, within its sequence: the random bits depend on seed and position alone.
  std::uint64_t position = 0;
};

/// The backend's answer for a row that it leaves to Sampler::sample (sampler/sampler.h) on the host: because
/// the row asks for that (SampleRow::on_host), because this backend supports only greedy sampling, or because
/// no token can be chosen (a logit is NaN or +infinity, or all are -infinity), which the host's sampler
/// reports as an error.
inline constexpr std::uint32_t kSampleOnHost = 0xffffffffu;

/// Chooses a token for every row of the last pass's logits: the one that Sampler::sample would choose.
struct SampleArgs {
  std::int32_t n_rows;  // the pass's n_logit_rows
  std::int64_t vocab;
  const float* logits;    // [n_rows, vocab], as logits() left them
  const SampleRow* rows;  // [n_rows], on the host
  std::uint32_t* tokens;  // out [n_rows], on the host: an id, or kSampleOnHost
};

/// The ops of one backend. Not thread-safe: one engine thread calls them, in order. Ops of a layer carry its
/// index (`layer`), so that a backend of several devices knows which of them holds that layer.
class Ops {
 public:
  virtual ~Ops() = default;
  virtual void embed(const EmbedArgs& args) = 0;
  virtual void attention_input(const AttentionInputArgs& args) = 0;
  virtual void paged_attention(const PagedAttentionArgs& args) = 0;
  virtual void project_residual(const ProjectResidualArgs& args) = 0;
  virtual void swiglu(const SwigluArgs& args) = 0;
  virtual void experts(const ExpertsArgs& args) = 0;
  virtual void gather_rows(const GatherRowsArgs& args) = 0;
  virtual void logits(const LogitsArgs& args) = 0;
  virtual void sample(const SampleArgs& args) = 0;
};

}  // namespace cria
