#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "core/error.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/swiglu.h"

namespace cria::cuda {
namespace {

PackedMatrix packed(const Weight& w) { return {w.data, w.dtype, w.rows, w.cols}; }
ScaleAndBias scale_and_bias(const Weight& w) { return {.scale = w.scale, .bias = w.bias}; }

/// Whether `next`, whose tiles follow those of `w`, can be multiplied with it as one matrix.
bool continues(const Weight& w, const Weight& next) {
  return next.layout == kContinuesPrevious && next.scale == w.scale &&
         next.bias == (w.bias ? w.bias + w.rows : nullptr);
}

}  // namespace

class CudaOps::QuantizedActivations {
 public:
  /// Of RMSNorm(x) with a `norm`, else of x.
  QuantizedActivations(const CudaOps& ops, const float* x, const float* norm, float eps, std::int32_t n,
                       std::int64_t cols)
      : ops_(ops), x_(x), norm_(norm), eps_(eps), n_(n), cols_(cols) {}

  /// `up`: with Epilogue::swiglu, the matrix that is fused with `weight`.
  void multiply(const Weight& weight, float* y, std::int64_t y_stride, Epilogue epilogue,
                const Weight& up = {}) {
    const ActivationForm form = activation_form(weight.dtype);
    void* const scratch = ops_.activations_.get();
    if (!ready_ || form != form_) {
      if (norm_)
        rms_norm_quantize(form, x_, norm_, eps_, n_, cols_, scratch, ops_.stream());
      else
        quantize_activations(form, x_, n_, cols_, scratch, ops_.stream());
      form_ = form;
      ready_ = true;
    }
    matmul(ops_.matmul_,
           {.weight = packed(weight),
            .activations = scratch,
            .n_tokens = n_,
            .y = y,
            .y_stride = y_stride,
            .epilogue = epilogue,
            .own = scale_and_bias(weight),
            .up = scale_and_bias(up)},
           ops_.stream());
  }

 private:
  const CudaOps& ops_;
  const float* const x_;
  const float* const norm_;
  const float eps_;
  const std::int32_t n_;
  const std::int64_t cols_;
  ActivationForm form_ = ActivationForm::f32;
  bool ready_ = false;
};

CudaOps::CudaOps(const Context& context, const CudaWeights& weights, bool graphs)
    : context_(context),
      weights_(weights),
      graphs_enabled_(graphs),
      matmul_(prepare_matmul(context.properties())),
      experts_(context, matmul_),
      sampler_(context) {}

void CudaOps::prepare(const PassLimits& limits) {
  if (batch_ && limits == limits_) return;
  context_.bind();
  const AttentionShape& s = limits.shape;
  if (s.head_dim % 2 != 0 || s.head_dim > kMaxHeadDim)
    throw Error(ErrorCode::unsupported_model,
                "head_dim on CUDA: expected an even number, at most " + std::to_string(kMaxHeadDim) +
                    ", found " + std::to_string(s.head_dim) + "; use device: 'cpu'",
                {{"found", s.head_dim}});
  synchronize(stream());
  batch_.reset();  // not ready, should anything below fail
  graphs_ = {};    // they hold addresses of what is allocated anew
  limits_ = limits;
  if (limits.kv_dtype != DType::f32) attention_ = attention_setup(s, context_.properties());
  const std::int64_t max_cols = std::max(weights_.max_cols(), limits.matrix_cols);
  const std::int64_t up_rows = std::max(weights_.max_separate_up_rows(), limits.up_rows);
  experts_.prepare(limits.experts, limits.max_tokens, up_rows > 0);
  const std::int32_t max_rows = std::max(limits.max_tokens, experts_.max_rows());
  std::size_t bytes = 0;
  for (const ActivationForm form : {ActivationForm::f32, ActivationForm::f16, ActivationForm::bf16,
                                    ActivationForm::q8_0, ActivationForm::q8_k})
    bytes = std::max(bytes, activation_bytes(form, max_rows, max_cols));
  reserve_activations(bytes);
  const auto n = static_cast<std::size_t>(limits.max_tokens);
  qkv_ = allocate_array<float>(n * static_cast<std::size_t>((s.n_heads + 2 * s.n_kv_heads) * s.head_dim),
                               "queries, keys and values");
  up_ = allocate_array<float>(n * static_cast<std::size_t>(up_rows), "activations");
  sampler_.prepare(limits.max_sequences, limits.vocab);
  batch_ = std::make_unique<PassBatch>(limits, context_.properties());
  n_logit_rows_ = 0;
  must_clear_ = true;
}

void CudaOps::reserve_activations(std::size_t bytes) {
  if (bytes <= activations_bytes_) return;
  graphs_ = {};
  activations_bytes_ = 0;
  activations_.reset();
  activations_ = allocate_array<std::byte>(bytes, "activations");
  activations_bytes_ = bytes;
}

void CudaOps::clear_workspaces() {
  if (!must_clear_) return;
  sampler_.clear();
  batch_->clear_workspace(stream());
  must_clear_ = false;
}

// ---- passes ----

PassBatch& CudaOps::batch() {
  if (!batch_ || state_ == State::idle)
    throw Error(ErrorCode::internal, "an op was called outside of a pass");
  return *batch_;
}

bool CudaOps::begin(const Pass& pass) {
  context_.bind();
  if (!batch_) throw Error(ErrorCode::internal, "a pass began before prepare()");
  // A pass that failed may have left work behind that reads what is staged now.
  if (state_ != State::idle) synchronize(stream());
  state_ = State::running;
  n_tokens_ = pass.batch->n_tokens;
  n_logit_rows_ = pass.n_logit_rows;
  clear_workspaces();
  const PassShape shape = batch_->shape_of(pass, true);
  batch_->stage(pass, shape, stream());
  const bool recordable = graphs_enabled_ && shape.only_decode && shape.n_logit_rows == shape.n_tokens;
  if (!recordable) return true;
  switch (graphs_.next(shape)) {
    case PassGraphs::Next::run: break;
    case PassGraphs::Next::capture:
      begin_capture(stream());
      state_ = State::capturing;
      break;
    case PassGraphs::Next::replay: state_ = State::replaying; return false;
  }
  return true;
}

void CudaOps::end() {
  if (state_ == State::capturing) {
    state_ = State::running;  // captured() ends the capture even when it throws
    graphs_.captured(batch_->shape(), stream());
    state_ = State::replaying;
  }
  if (state_ == State::replaying) graphs_.launch(batch_->shape(), stream());
  // Here, so that a failure is known before anyone relies on the pages.
  synchronize(stream());
  state_ = State::idle;
}

void CudaOps::cancel() noexcept {
  if (state_ == State::idle) return;
  if (state_ == State::capturing) PassGraphs::abandon(stream());
  state_ = State::unknown;
  must_clear_ = true;
  n_logit_rows_ = 0;
  try {
    synchronize(stream());
    state_ = State::idle;
  } catch (...) {  // begin() will report it
  }
}

// ---- ops ----

void CudaOps::embed(const EmbedArgs& args) {
  const Batch& b = batch().batch();
  dequantize_rows(packed(args.embedding), b.tokens, b.n_tokens, args.x, stream());
}

void CudaOps::attention_input(const AttentionInputArgs& args) {
  const Batch& b = batch().batch();
  const LayerWeights& layer = *args.weights;
  const Weight* const weights[3] = {&layer.query, &layer.key, &layer.value};
  const std::int64_t q = layer.query.rows, kv = layer.key.rows, stride = q + 2 * kv;
  QuantizedActivations x(*this, args.x, static_cast<const float*>(layer.attention_norm.data),
                         args.rms_norm_eps, b.n_tokens, layer.query.cols);
  float* y = qkv_.get();
  for (int i = 0; i < 3;) {
    Weight matrix = *weights[i++];
    while (i < 3 && continues(matrix, *weights[i])) matrix.rows += weights[i++]->rows;
    x.multiply(matrix, y, stride, Epilogue::store);
    y += matrix.rows;
  }
  const float* const base = qkv_.get();
  append_kv({&b, args.shape, base, base + q, base + q + kv, stride, stride, args.q, args.kv}, stream());
}

void CudaOps::paged_attention(const PagedAttentionArgs& args) {
  const PagedAttentionArgs on_device{&batch().batch(), args.shape, args.q, args.kv, args.out};
  cuda::paged_attention(on_device, batch().attention(), attention_, stream());
}

void CudaOps::multiply(const Weight& weight, const float* x, std::int32_t n_tokens, float* y,
                       bool accumulate) {
  context_.bind();
  reserve_activations(activation_bytes(activation_form(weight.dtype), n_tokens, weight.cols));
  QuantizedActivations activations(*this, x, nullptr, 0.0f, n_tokens, weight.cols);
  activations.multiply(weight, y, weight.rows, accumulate ? Epilogue::add : Epilogue::store);
}

std::int32_t CudaOps::padded(std::int32_t n_tokens) {
  const PassShape& shape = batch().shape();
  return n_tokens == n_tokens_ ? shape.n_tokens : shape.n_logit_rows;
}

void CudaOps::project_residual(const ProjectResidualArgs& args) {
  QuantizedActivations h(*this, args.h, nullptr, 0.0f, padded(args.n_tokens), args.weight.cols);
  h.multiply(args.weight, args.x, args.weight.rows, Epilogue::add);
}

void CudaOps::swiglu(const SwigluArgs& args) {
  const Weight &gate = args.weights->gate, &up = args.weights->up;
  const std::int32_t n = padded(args.n_tokens);
  QuantizedActivations x(*this, args.x, static_cast<const float*>(args.weights->ffn_norm.data),
                         args.rms_norm_eps, n, gate.cols);
  if (gate.layout == kFusedGateUp) {
    x.multiply(gate, args.h, gate.rows, Epilogue::swiglu, up);
    return;
  }
  x.multiply(gate, args.h, gate.rows, Epilogue::store);
  x.multiply(up, up_.get(), up.rows, Epilogue::store);
  silu_mul(args.h, up_.get(), args.h, n * gate.rows, stream());
}

void CudaOps::experts(const ExpertsArgs& args) {
  const LayerWeights& weights = *args.weights;
  const std::int32_t n = padded(args.n_tokens);
  QuantizedActivations x(*this, args.x, static_cast<const float*>(weights.ffn_norm.data), args.rms_norm_eps,
                         n, weights.router.cols);
  x.multiply(weights.router, experts_.router_logits(), weights.router.rows, Epilogue::store);
  experts_.run(args, n, activations_.get());
}

void CudaOps::gather_rows(const GatherRowsArgs& args) {
  cuda::embed(args.from, DType::f32, n_tokens_, static_cast<std::int32_t>(args.cols),
              reinterpret_cast<const std::uint32_t*>(batch().logit_rows()), args.n_rows, args.to, stream());
}

void CudaOps::logits(const LogitsArgs& args) {
  const std::int32_t rows = batch().shape().n_logit_rows;
  QuantizedActivations x(*this, args.x, static_cast<const float*>(args.norm.data), args.rms_norm_eps, rows,
                         args.norm.cols);
  x.multiply(args.output, args.logits, args.output.rows, Epilogue::store);
  // With the pass, and recorded with it: most rows are greedy, and a launch of its own would cost a step
  // more.
  sampler_.launch_greedy(args.logits, rows, args.output.rows);
}

void CudaOps::sample(const SampleArgs& args) {
  if (state_ != State::idle || args.n_rows != n_logit_rows_ || args.vocab != limits_.vocab)
    throw Error(ErrorCode::internal, "sample() wants the logits of the last pass");
  context_.bind();
  const std::span rows(args.rows, static_cast<std::size_t>(args.n_rows));
  const bool all_greedy =
      std::ranges::all_of(rows, [](const SampleRow& row) { return row.on_host || row.temperature == 0; });
  if (!all_greedy) sampler_.sample(args.logits, args.vocab, rows, args.tokens);
  for (std::size_t i = 0; i < rows.size(); i++) {
    if (rows[i].on_host)
      args.tokens[i] = kSampleOnHost;
    else if (all_greedy)
      args.tokens[i] =
          std::isfinite(sampler_.log_sum_exps()[i]) ? sampler_.greedy_tokens()[i] : kSampleOnHost;
  }
}

}  // namespace cria::cuda
