#include "model/decoder.h"

#include <algorithm>
#include <utility>

#include "core/rope_frequencies.h"

namespace cria {

AttentionShape attention_shape(const ModelConfig& config) {
  return {.n_heads = static_cast<std::int32_t>(config.n_heads),
          .n_kv_heads = static_cast<std::int32_t>(config.n_kv_heads),
          .head_dim = static_cast<std::int32_t>(config.head_dim),
          .rope_dim = static_cast<std::int32_t>(config.rope_dim),
          .rope_half_layout = config.rope_layout == RopeLayout::half};
}

ExpertShape expert_shape(const ModelConfig& config) {
  return {.n_experts = static_cast<std::int32_t>(config.n_experts),
          .n_used = static_cast<std::int32_t>(config.n_experts_used),
          .hidden = config.hidden,
          .ffn_hidden = config.ffn_hidden};
}

Decoder::Decoder(ModelConfig config, std::unique_ptr<Backend> backend, ModelWeights weights,
                 const KvOptions& kv, std::int32_t max_batch_tokens, std::int32_t max_sequences)
    : config_(std::move(config)),
      backend_(std::move(backend)),
      weights_(std::move(weights)),
      shape_(attention_shape(config_)),
      max_batch_tokens_(std::min(max_batch_tokens, backend_->info().max_batch_tokens)),
      max_sequences_(max_sequences) {
  kv_ = backend_->kv().create({.shape = shape_,
                               .dtype = kv.dtype,
                               .n_layers = static_cast<std::int32_t>(config_.n_layers),
                               .n_pages = kv.n_pages});
  Activations& activations = backend_->activations();
  const auto n = static_cast<std::size_t>(max_batch_tokens_), rows = static_cast<std::size_t>(max_sequences);
  const std::size_t q_dim = static_cast<std::size_t>(config_.n_heads) * config_.head_dim;
  x_ = activations.allocate(n * config_.hidden);
  q_ = activations.allocate(n * q_dim);
  attention_ = activations.allocate(n * q_dim);
  if (config_.n_experts == 0) h_ = activations.allocate(n * config_.ffn_hidden);
  logit_x_ = activations.allocate(rows * config_.hidden);
  logit_attention_ = activations.allocate(rows * q_dim);
  logits_ = activations.allocate(rows * config_.vocab_size);
  const auto page = static_cast<std::uint32_t>(backend_->info().page_tokens);
  const auto pages_of_context = static_cast<std::int32_t>((config_.context_length + page - 1) / page);
  backend_->passes().prepare({.shape = shape_,
                              .kv_dtype = kv.dtype,
                              .max_tokens = max_batch_tokens_,
                              .max_sequences = max_sequences_,
                              .max_pages = std::min(kv.n_pages, pages_of_context),
                              .vocab = config_.vocab_size,
                              .experts = expert_shape(config_)});
}

void Decoder::build_batch(std::span<const DecoderInput> inputs) {
  tokens_.clear();
  positions_.clear();
  sequence_of_.clear();
  logit_rows_.clear();
  std::size_t stride = 0;
  for (const DecoderInput& in : inputs) stride = std::max(stride, in.block_table.size());
  block_table_.assign(stride * inputs.size(), 0);
  for (std::size_t s = 0; s < inputs.size(); s++) {
    const DecoderInput& in = inputs[s];
    std::copy(in.block_table.begin(), in.block_table.end(),
              block_table_.begin() + static_cast<std::ptrdiff_t>(s * stride));
    for (std::size_t i = 0; i < in.tokens.size(); i++) {
      const std::int32_t position = in.first_position + static_cast<std::int32_t>(i);
      tokens_.push_back(in.tokens[i]);
      positions_.push_back(position);
      sequence_of_.push_back(static_cast<std::int32_t>(s));
    }
    const auto last = static_cast<std::int32_t>(tokens_.size()) - 1;
    const auto first = in.all_logits ? last + 1 - static_cast<std::int32_t>(in.tokens.size()) : last;
    if (in.wants_logits || in.all_logits)
      for (std::int32_t row = first; row <= last; row++) logit_rows_.push_back(row);
  }
  rope_cos_.resize(positions_.size() * config_.rope_inv_freq.size());
  rope_sin_.resize(rope_cos_.size());
  rope_angles(positions_, config_.rope_inv_freq, config_.rope_magnitude, rope_cos_.data(), rope_sin_.data());
  batch_ = {.n_tokens = static_cast<std::int32_t>(tokens_.size()),
            .n_sequences = static_cast<std::int32_t>(inputs.size()),
            .tokens = tokens_.data(),
            .positions = positions_.data(),
            .sequence_of = sequence_of_.data(),
            .block_table = block_table_.data(),
            .block_table_stride = static_cast<std::int32_t>(stride),
            .rope_cos = rope_cos_.data(),
            .rope_sin = rope_sin_.data()};
}

namespace {

/// Rows [first_row, first_row + n_rows) with one adapter.
struct AppliedRows {
  AppliedAdapter applied;
  std::int32_t first_row, n_rows;
};

/// Runs by ascending adapter, so that every row meets its adapters in the order of its set, whatever other
/// rows there are. Adjacent rows with the same adapter and scale share a run.
void to_runs(std::vector<AppliedRows>& applied, const std::vector<Adapter>& adapters,
             std::vector<AdapterRun>& runs) {
  std::ranges::stable_sort(applied, {}, [](const AppliedRows& rows) { return rows.applied.adapter; });
  for (const AppliedRows& rows : applied) {
    const AdapterLayer* const layers =
        adapters.at(static_cast<std::size_t>(rows.applied.adapter)).layers.data();
    if (!runs.empty()) {
      AdapterRun& last = runs.back();
      if (last.layers == layers && last.scale == rows.applied.scale &&
          last.first_row + last.n_rows == rows.first_row) {
        last.n_rows += rows.n_rows;
        continue;
      }
    }
    runs.push_back(
        {.layers = layers, .scale = rows.applied.scale, .first_row = rows.first_row, .n_rows = rows.n_rows});
  }
}

AdapterRuns view(const std::vector<AdapterRun>& runs) {
  return {.runs = runs.data(), .n = static_cast<std::int32_t>(runs.size())};
}

}  // namespace

void Decoder::build_runs(std::span<const DecoderInput> inputs) {
  runs_.clear();
  logit_runs_.clear();
  std::vector<AppliedRows> of_tokens, of_logit_rows;
  std::int32_t token = 0, logit_row = 0;
  for (const DecoderInput& in : inputs) {
    const auto n = static_cast<std::int32_t>(in.tokens.size());
    const std::int32_t n_logits = in.all_logits ? n : in.wants_logits ? 1 : 0;
    for (const AppliedAdapter& applied : in.adapters) {
      of_tokens.push_back({applied, token, n});
      if (n_logits > 0) of_logit_rows.push_back({applied, logit_row, n_logits});
    }
    token += n;
    logit_row += n_logits;
  }
  if (of_tokens.empty()) return;
  to_runs(of_tokens, weights_.adapters, runs_);
  to_runs(of_logit_rows, weights_.adapters, logit_runs_);
}

bool Decoder::forward(std::span<const DecoderInput> inputs, const std::function<bool()>& stopped) {
  build_batch(inputs);
  build_runs(inputs);
  Passes& passes = backend_->passes();
  try {
    const bool calls_ops = passes.begin({.batch = &batch_,
                                         .logit_rows = logit_rows_.data(),
                                         .n_logit_rows = n_logit_rows(),
                                         .has_adapters = !runs_.empty()});
    if (calls_ops && !run_ops(stopped)) {
      passes.cancel();
      return false;
    }
    passes.end();
  } catch (...) {
    passes.cancel();
    throw;
  }
  return true;
}

bool Decoder::run_ops(const std::function<bool()>& stopped) {
  Ops& ops = backend_->ops();
  // All tokens; after the last layer's attention, run_layer() keeps only the rows that get logits.
  Rows rows{.n = batch_.n_tokens, .x = x_, .attention = attention_, .adapters = view(runs_)};
  ops.embed({.batch = &batch_, .embedding = weights_.embedding, .x = x_});
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(config_.n_layers); layer++) {
    if (stopped && stopped()) return false;
    run_layer(layer, rows);
  }
  if (n_logit_rows() == 0) return true;
  ops.logits({.n_rows = n_logit_rows(),
              .norm = weights_.output_norm,
              .output = weights_.output,
              .rms_norm_eps = config_.rms_norm_eps,
              .x = rows.x,
              .logits = logits_});
  return true;
}

void Decoder::run_layer(std::int32_t layer, Rows& rows) {
  Ops& ops = backend_->ops();
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  const KvLayer& kv = kv_->layers()[static_cast<std::size_t>(layer)];
  const float eps = config_.rms_norm_eps;
  show(layer, ActivationPoint::attention_input, rows.x, rows.n, config_.hidden);
  ops.attention_input({.batch = &batch_,
                       .weights = &w,
                       .shape = shape_,
                       .rms_norm_eps = eps,
                       .x = rows.x,
                       .kv = kv,
                       .q = q_,
                       .layer = layer,
                       .adapters = rows.adapters});
  const bool is_last = layer + 1 == static_cast<std::int32_t>(config_.n_layers);
  if (is_last && n_logit_rows() == 0) return;  // nothing reads x any more; the KV cache is complete
  ops.paged_attention(
      {.batch = &batch_, .shape = shape_, .q = q_, .kv = kv, .out = rows.attention, .layer = layer});
  if (is_last && n_logit_rows() < rows.n) gather_logit_rows(layer, rows);
  show(layer, ActivationPoint::attention_output, rows.attention, rows.n,
       std::int64_t{shape_.n_heads} * shape_.head_dim);
  ops.project_residual({.n_tokens = rows.n,
                        .weight = w.attention_output,
                        .h = rows.attention,
                        .x = rows.x,
                        .layer = layer,
                        .projection = Projection::attention_output,
                        .adapters = rows.adapters});
  run_ffn(layer, rows);
}

void Decoder::run_ffn(std::int32_t layer, const Rows& rows) {
  Ops& ops = backend_->ops();
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(layer)];
  const float eps = config_.rms_norm_eps;
  if (!w.experts.empty()) {
    ops.experts({.n_tokens = rows.n,
                 .weights = &w,
                 .shape = expert_shape(config_),
                 .rms_norm_eps = eps,
                 .x = rows.x,
                 .layer = layer});
    return;
  }
  show(layer, ActivationPoint::ffn_input, rows.x, rows.n, config_.hidden);
  ops.swiglu({.n_tokens = rows.n,
              .weights = &w,
              .rms_norm_eps = eps,
              .x = rows.x,
              .h = h_,
              .layer = layer,
              .adapters = rows.adapters});
  show(layer, ActivationPoint::ffn_hidden, h_, rows.n, config_.ffn_hidden);
  ops.project_residual({.n_tokens = rows.n,
                        .weight = w.down,
                        .h = h_,
                        .x = rows.x,
                        .layer = layer,
                        .projection = Projection::down,
                        .adapters = rows.adapters});
}

void Decoder::show(std::int32_t layer, ActivationPoint point, const float* rows, std::int64_t n,
                   std::int64_t cols) {
  if (!observer_) return;
  const float* values = backend_->activations().fetch(rows, static_cast<std::size_t>(n * cols));
  observer_->observe(layer, point, values, n, cols);
}

void Decoder::gather_logit_rows(std::int32_t layer, Rows& rows) {
  const auto gather = [&](std::int64_t cols, const float* from, float* to) {
    backend_->ops().gather_rows({.n_rows = n_logit_rows(),
                                 .rows = logit_rows_.data(),
                                 .cols = cols,
                                 .from = from,
                                 .to = to,
                                 .layer = layer});
  };
  gather(config_.hidden, rows.x, logit_x_);
  gather(std::int64_t{shape_.n_heads} * shape_.head_dim, rows.attention, logit_attention_);
  rows = {.n = n_logit_rows(), .x = logit_x_, .attention = logit_attention_, .adapters = view(logit_runs_)};
}

std::span<const float> Decoder::logits(std::size_t row) {
  const std::size_t vocab = config_.vocab_size;
  return {backend_->activations().fetch(logits_ + row * vocab, vocab), vocab};
}

void Decoder::sample(std::span<const SampleRow> rows, std::span<std::uint32_t> tokens) {
  if (rows.empty()) return;
  backend_->ops().sample({.n_rows = n_logit_rows(),
                          .vocab = config_.vocab_size,
                          .logits = logits_,
                          .rows = rows.data(),
                          .tokens = tokens.data()});
}

}  // namespace cria
