#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"

namespace cria {

AttentionShape attention_shape(const ModelConfig& config) {
  AttentionShape shape;
  shape.n_heads = static_cast<std::int32_t>(config.n_heads);
  shape.n_kv_heads = static_cast<std::int32_t>(config.n_kv_heads);
  shape.head_dim = static_cast<std::int32_t>(config.head_dim);
  shape.rope_dim = static_cast<std::int32_t>(config.rope_dim);
  shape.rope_half_layout = config.rope_layout == RopeLayout::half;
  return shape;
}

Decoder::Decoder(ModelConfig config, std::unique_ptr<Backend> backend, ModelWeights weights,
                 const KvOptions& kv, std::int32_t max_batch_tokens, std::int32_t max_sequences)
    : config_(std::move(config)),
      backend_(std::move(backend)),
      weights_(std::move(weights)),
      shape_(attention_shape(config_)),
      layer_page_bytes_(backend_->kv_page_bytes(shape_, kv.dtype)),
      max_batch_tokens_(std::min(max_batch_tokens, backend_->info().max_batch_tokens)),
      max_sequences_(max_sequences) {
  kv_ = backend_->allocate_kv(shape_, kv.dtype, static_cast<std::int32_t>(config_.n_layers), kv.n_pages);
  const auto n = static_cast<std::size_t>(max_batch_tokens_);
  const std::size_t q_dim = static_cast<std::size_t>(config_.n_heads) * config_.head_dim;
  x_ = backend_->allocate_activations(n * config_.hidden);
  q_ = backend_->allocate_activations(n * q_dim);
  attention_ = backend_->allocate_activations(n * q_dim);
  h_ = backend_->allocate_activations(n * config_.ffn_hidden);
  const auto rows = static_cast<std::size_t>(max_sequences);
  logit_x_ = backend_->allocate_activations(rows * config_.hidden);
  logit_attention_ = backend_->allocate_activations(rows * q_dim);
  logits_ = backend_->allocate_activations(rows * config_.vocab_size);
  const auto page = static_cast<std::uint32_t>(backend_->info().page_tokens);
  const auto pages_of_context = static_cast<std::int32_t>((config_.context_length + page - 1) / page);
  backend_->prepare_passes({shape_, kv.dtype, max_batch_tokens_, max_sequences_,
                            std::min(kv.n_pages, pages_of_context), config_.vocab_size});
}

void Decoder::build_batch(std::span<const DecoderInput> inputs) {
  tokens_.clear();
  positions_.clear();
  sequence_of_.clear();
  logit_rows_.clear();
  greedy_.clear();
  rope_cos_.clear();
  rope_sin_.clear();
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
      // The angle is a float32 product, as in Meta's and Hugging Face's code: what the weights were trained
      // with.
      for (const float inv_freq : config_.rope_inv_freq) {
        const double angle = static_cast<float>(position) * inv_freq;
        rope_cos_.push_back(static_cast<float>(std::cos(angle)));
        rope_sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    if (in.wants_logits) logit_rows_.push_back(static_cast<std::int32_t>(tokens_.size()) - 1);
  }
  batch_ = {static_cast<std::int32_t>(tokens_.size()),
            static_cast<std::int32_t>(inputs.size()),
            tokens_.data(),
            positions_.data(),
            sequence_of_.data(),
            block_table_.data(),
            static_cast<std::int32_t>(stride),
            rope_cos_.data(),
            rope_sin_.data()};
}

bool Decoder::forward(std::span<const DecoderInput> inputs, const std::function<bool()>& stopped) {
  build_batch(inputs);
  try {
    const bool calls_ops =
        backend_->begin_pass({&batch_, logit_rows_.data(), static_cast<std::int32_t>(logit_rows_.size())});
    if (calls_ops && !run_ops(stopped)) {
      backend_->cancel_pass();
      return false;
    }
    backend_->end_pass();
  } catch (...) {
    backend_->cancel_pass();
    throw;
  }
  return true;
}

bool Decoder::run_ops(const std::function<bool()>& stopped) {
  const float eps = config_.rms_norm_eps;
  const auto n_rows = static_cast<std::int32_t>(logit_rows_.size());
  std::int32_t n = batch_.n_tokens;
  float *x = x_, *attention = attention_;
  Backend& ops = *backend_;

  ops.embed({&batch_, weights_.embedding, x_});
  for (std::size_t i = 0; i < weights_.layers.size(); i++) {
    if (stopped && stopped()) return false;
    const LayerWeights& layer = weights_.layers[i];
    ops.attention_input({&batch_, &layer, shape_, eps, x_, kv_[i], q_});
    const bool is_last = i + 1 == weights_.layers.size();
    if (is_last && n_rows == 0) break;
    ops.paged_attention({&batch_, shape_, q_, kv_[i], attention_});
    if (is_last && n_rows < n) {
      // Beyond the last layer's K and V nobody asks for the other tokens.
      ops.gather_rows({n_rows, logit_rows_.data(), config_.hidden, x_, logit_x_});
      ops.gather_rows(
          {n_rows, logit_rows_.data(), layer.attention_output.cols, attention_, logit_attention_});
      n = n_rows;
      x = logit_x_;
      attention = logit_attention_;
    }
    ops.project_residual({n, layer.attention_output, attention, x});
    ops.swiglu({n, &layer, eps, x, h_});
    ops.project_residual({n, layer.down, h_, x});
  }
  if (n_rows > 0) ops.logits({n_rows, weights_.output_norm, weights_.output, eps, x, logits_});
  return true;
}

void Decoder::copy_page(std::int32_t from, std::int32_t to) { backend_->copy_kv_page(kv_, from, to); }

void Decoder::read_pages(std::span<const std::int32_t> pages, std::int32_t n_tokens,
                         std::span<std::byte> bytes) {
  std::byte* at = bytes.data();
  for (const std::int32_t page : pages) {
    for (const KvLayer& layer : kv_) {
      backend_->read_kv_page(shape_, layer, page, n_tokens, at);
      at += layer_page_bytes_;
    }
    n_tokens -= backend_->info().page_tokens;
  }
}

void Decoder::write_pages(std::span<const std::int32_t> pages, std::span<const std::byte> bytes) {
  const std::byte* at = bytes.data();
  for (const std::int32_t page : pages) {
    for (const KvLayer& layer : kv_) {
      backend_->write_kv_page(layer, page, at);
      at += layer_page_bytes_;
    }
  }
}

std::span<const float> Decoder::logits(std::size_t i) {
  const std::size_t vocab = config_.vocab_size;
  return {backend_->fetch(logits_ + i * vocab, vocab), vocab};
}

void Decoder::choose_greedy(std::size_t first, std::size_t count) {
  greedy_.resize(logit_rows_.size(), kNotDrawn);
  log_sum_exp_.resize(logit_rows_.size());
  backend_->sample({static_cast<std::int32_t>(count), config_.vocab_size,
                    logits_ + first * config_.vocab_size, greedy_.data() + first,
                    log_sum_exp_.data() + first});
}

std::uint32_t Decoder::greedy_token(std::size_t i) {
  if (i >= greedy_.size() || greedy_[i] == kNotDrawn) choose_greedy(i, 1);
  if (!std::isfinite(log_sum_exp_[i]))
    throw Error(ErrorCode::invalid_model, "the model's logits are not finite: its weights are damaged");
  return greedy_[i];
}

bool Decoder::draw(std::span<const DrawRow> rows, std::span<std::uint32_t> tokens) {
  return backend_->draw(
      {static_cast<std::int32_t>(rows.size()), config_.vocab_size, logits_, rows.data(), tokens.data()});
}

}  // namespace cria
