#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/error.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/swiglu.h"

namespace cria::cuda {
namespace {

static_assert(kNoToken == kNotDrawn);

PackedMatrix packed(const Weight& w) { return {w.data, w.dtype, w.rows, w.cols}; }

/// Whether b lies behind a, so that both can be multiplied as one (WeightPlan).
bool continues(const PackedMatrix& a, const Weight& b) {
  return a.dtype == b.dtype && a.cols == b.cols && a.rows % kTileRows == 0 &&
         static_cast<const std::byte*>(a.data) + packed_bytes(a.dtype, a.rows, a.cols) == b.data;
}

}  // namespace

class CudaOps::Activations {
 public:
  Activations(const CudaOps& ops, const float* x, const float* norm, float eps, std::int32_t n,
              std::int64_t cols)
      : ops_(ops), x_(x), norm_(norm), eps_(eps), n_(n), cols_(cols) {}

  void multiply(const PackedMatrix& weight, float* y, std::int64_t y_stride, Epilogue epilogue) {
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
           {.weight = weight,
            .activations = scratch,
            .n_tokens = n_,
            .y = y,
            .y_stride = y_stride,
            .epilogue = epilogue},
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

struct CudaOps::Draws {
  explicit Draws(std::size_t rows)
      : sampling(allocate_array<TokenSampling>(rows, "sampling")),
        staged(allocate_pinned_array<TokenSampling>(rows, "sampling")),
        tokens(allocate_array<std::uint32_t>(rows, "sampling")),
        result(allocate_pinned_array<std::uint32_t>(rows, "sampling")) {}
  DeviceMemory<TokenSampling> sampling;
  PinnedMemory<TokenSampling> staged;
  DeviceMemory<std::uint32_t> tokens;
  PinnedMemory<std::uint32_t> result;
};

CudaOps::CudaOps(int device, bool graphs) : device_(device), graphs_enabled_(graphs) {
  bind();
  properties_ = device_properties(device);
  stream_.reset(create_stream());
  matmul_ = prepare_matmul(properties_);
}

CudaOps::~CudaOps() {
  try {  // what is freed now must not be in use
    bind();
    synchronize(stream());
  } catch (...) {
  }
}

void CudaOps::note_weights(std::span<const WeightSpec> specs, const WeightPlan& plan) {
  for (std::size_t i = 0; i < specs.size(); i++) {
    const WeightSpec& s = specs[i];
    if (s.use != WeightUse::vector) most_cols_ = std::max(most_cols_, s.cols);
    if (s.use == WeightUse::up && !plan.places[i].done) most_up_ = std::max(most_up_, s.rows);
  }
}

void CudaOps::prepare_passes(const PassLimits& limits) {
  if (greedy_ && limits == limits_) return;
  bind();
  const AttentionShape& s = limits.shape;
  if (s.head_dim % 2 != 0 || s.head_dim > kMaxHeadDim)
    throw Error(ErrorCode::unsupported_model,
                "heads of " + std::to_string(s.head_dim) + " dimensions: on CUDA they have an even number, " +
                    std::to_string(kMaxHeadDim) + " at most; use device: 'cpu'",
                {{"found", static_cast<double>(s.head_dim)}});
  synchronize(stream());
  greedy_.reset();  // not ready, should anything below fail
  batch_.reset();
  graphs_ = {};  // they have the addresses of what is made anew
  limits_ = limits;
  if (limits.kv_dtype != DType::f32) attention_ = attention_setup(s, properties_);
  batch_ = std::make_unique<PassBatch>(limits, properties_);
  const auto n = static_cast<std::size_t>(limits.max_tokens);
  std::size_t bytes = 0;
  for (const ActivationForm form : {ActivationForm::f32, ActivationForm::f16, ActivationForm::bf16,
                                    ActivationForm::q8_0, ActivationForm::q8_k})
    bytes =
        std::max(bytes, activation_bytes(form, limits.max_tokens, std::max(most_cols_, limits.matrix_cols)));
  reserve_activations(bytes);
  qkv_ = allocate_array<float>(n * static_cast<std::size_t>((s.n_heads + 2 * s.n_kv_heads) * s.head_dim),
                               "queries, keys and values");
  up_ =
      allocate_array<float>(n * static_cast<std::size_t>(std::max(most_up_, limits.up_rows)), "activations");
  const auto rows = static_cast<std::size_t>(limits.max_sequences);
  const std::size_t workspace = greedy_workspace_bytes(limits.max_sequences, limits.vocab);
  greedy_workspace_ = allocate_array<std::byte>(workspace, "sampling");
  greedy_result_ = allocate_pinned_array<std::uint32_t>(2 * rows, "sampling");
  greedy_ = allocate_array<std::uint32_t>(2 * rows, "sampling");
  greedy_rows_ = 0;
  draws_ = std::make_unique<Draws>(rows);
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
  fill_bytes(greedy_workspace_.get(), 0, greedy_workspace_bytes(limits_.max_sequences, limits_.vocab),
             stream());
  batch_->clear_workspace(stream());
  must_clear_ = false;
}

// ---- passes ----

PassBatch& CudaOps::batch() {
  if (!batch_ || state_ == State::idle) throw Error(ErrorCode::internal, "an op outside of a pass");
  return *batch_;
}

bool CudaOps::begin_pass(const Pass& pass) {
  bind();
  if (!batch_) throw Error(ErrorCode::internal, "a pass before prepare_passes");
  // A pass that failed may have left work behind, which reads what is staged now.
  if (state_ != State::idle) synchronize(stream());
  state_ = State::running;
  greedy_rows_ = 0;
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

void CudaOps::end_pass() {
  if (state_ == State::capturing) {
    state_ = State::running;  // a capture ends in any case
    graphs_.captured(batch_->shape(), stream());
    state_ = State::replaying;
  }
  if (state_ == State::replaying) graphs_.launch(batch_->shape(), stream());
  // Here, so that what went wrong is known before anyone counts on the pages.
  synchronize(stream());
  state_ = State::idle;
  greedy_rows_ = n_logit_rows_;
}

void CudaOps::cancel_pass() noexcept {
  if (state_ == State::idle) return;
  if (state_ == State::capturing) PassGraphs::abandon(stream());
  state_ = State::unknown;
  must_clear_ = true;
  try {
    synchronize(stream());
    state_ = State::idle;
  } catch (...) {  // begin_pass says it
  }
}

// ---- ops ----

void CudaOps::embed(const EmbedArgs& args) {
  const Batch& b = batch().batch();
  dequantize_rows(packed(args.embedding), b.tokens, b.n_tokens, args.x, stream());
}

void CudaOps::attention_input(const AttentionInputArgs& args) {
  const Batch& b = batch().batch();
  const LayerWeights& layer = *args.layer;
  const Weight* const weights[3] = {&layer.query, &layer.key, &layer.value};
  const std::int64_t q = layer.query.rows, kv = layer.key.rows, stride = q + 2 * kv;
  Activations x(*this, args.x, static_cast<const float*>(layer.attention_norm.data), args.rms_norm_eps,
                b.n_tokens, layer.query.cols);
  float* y = qkv_.get();
  for (int i = 0; i < 3;) {
    PackedMatrix matrix = packed(*weights[i++]);
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
  bind();
  reserve_activations(activation_bytes(activation_form(weight.dtype), n_tokens, weight.cols));
  Activations activations(*this, x, nullptr, 0.0f, n_tokens, weight.cols);
  activations.multiply(packed(weight), y, weight.rows, accumulate ? Epilogue::add : Epilogue::store);
}

std::int32_t CudaOps::padded(std::int32_t n_tokens) {
  const PassShape& shape = batch().shape();
  return n_tokens == n_tokens_ ? shape.n_tokens : shape.n_logit_rows;
}

void CudaOps::project_residual(const ProjectResidualArgs& args) {
  Activations h(*this, args.h, nullptr, 0.0f, padded(args.n_tokens), args.weight.cols);
  h.multiply(packed(args.weight), args.x, args.weight.rows, Epilogue::add);
}

void CudaOps::swiglu(const SwigluArgs& args) {
  const Weight &gate = args.layer->gate, &up = args.layer->up;
  const std::int32_t n = padded(args.n_tokens);
  Activations x(*this, args.x, static_cast<const float*>(args.layer->ffn_norm.data), args.rms_norm_eps, n,
                gate.cols);
  if (gate.data == up.data) {  // interleaved
    x.multiply(packed(gate), args.h, gate.rows, Epilogue::swiglu);
    return;
  }
  x.multiply(packed(gate), args.h, gate.rows, Epilogue::store);
  x.multiply(packed(up), up_.get(), up.rows, Epilogue::store);
  silu_mul(args.h, up_.get(), args.h, n * gate.rows, stream());
}

void CudaOps::gather_rows(const GatherRowsArgs& args) {
  cuda::embed(args.from, DType::f32, n_tokens_, static_cast<std::int32_t>(args.cols),
              reinterpret_cast<const std::uint32_t*>(batch().logit_rows()), args.n_rows, args.to, stream());
}

void CudaOps::logits(const LogitsArgs& args) {
  const std::int32_t rows = batch().shape().n_logit_rows;
  Activations x(*this, args.x, static_cast<const float*>(args.norm.data), args.rms_norm_eps, rows,
                args.norm.cols);
  x.multiply(packed(args.output), args.logits, args.output.rows, Epilogue::store);
  logits_ = args.logits;
  choose_greedy(args.logits, rows, args.output.rows);
}

void CudaOps::choose_greedy(const float* logits, std::int32_t rows, std::int64_t vocab) {
  const auto most = static_cast<std::size_t>(limits_.max_sequences);
  auto* const sums = reinterpret_cast<float*>(greedy_.get() + most);
  // The place of its counters depends on the rows beyond so many.
  if (limits_.max_sequences > 64)
    fill_bytes(greedy_workspace_.get(), 0, greedy_workspace_bytes(rows, vocab), stream());
  greedy(logits, rows, vocab, greedy_.get(), sums, greedy_workspace_.get(), stream());
  copy_to_host(greedy_result_.get(), greedy_.get(), 2 * most * sizeof(std::uint32_t), stream());
}

void CudaOps::sample(const SampleArgs& args) {
  if (args.n_rows > limits_.max_sequences || args.vocab > limits_.vocab)
    throw Error(ErrorCode::internal, "more logits than was said before");
  // The last pass's rows were chosen from with it.
  std::ptrdiff_t first = logits_ && args.vocab == limits_.vocab ? (args.logits - logits_) / args.vocab : -1;
  if (first < 0 || first + args.n_rows > greedy_rows_) {
    bind();
    clear_workspaces();
    greedy_rows_ = 0;
    choose_greedy(args.logits, args.n_rows, args.vocab);
    synchronize(stream());
    first = 0;
  }
  const std::uint32_t* const tokens = greedy_result_.get() + first;
  std::copy_n(tokens, args.n_rows, args.argmax);
  std::memcpy(args.log_sum_exp, tokens + limits_.max_sequences,
              static_cast<std::size_t>(args.n_rows) * sizeof(float));
}

bool CudaOps::draw(const DrawArgs& args) {
  bind();
  if (!draws_ || args.n_rows > limits_.max_sequences || args.vocab != limits_.vocab)
    throw Error(ErrorCode::internal, "more to draw than prepare_passes was told of");
  const auto n = static_cast<std::size_t>(args.n_rows);
  for (std::size_t i = 0; i < n; i++) {
    const DrawRow& r = args.rows[i];
    draws_->staged.get()[i] = token_sampling(r.temperature, r.top_k, r.top_p, r.min_p, r.seed, r.position);
  }
  copy_to_device(draws_->sampling.get(), draws_->staged.get(), n * sizeof(TokenSampling), stream());
  cuda::sample(args.logits, args.n_rows, args.vocab, draws_->sampling.get(), draws_->tokens.get(), stream());
  copy_to_host(draws_->result.get(), draws_->tokens.get(), n * sizeof(std::uint32_t), stream());
  synchronize(stream());
  std::memcpy(args.tokens, draws_->result.get(), n * sizeof(std::uint32_t));
  return true;
}

}  // namespace cria::cuda
