#include "kernels/cuda/cuda_experts.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cuda/swiglu.h"
#include "kernels/cuda/weight_upload.h"

namespace cria::cuda {
namespace {

// Pairs of a token and an expert that run at once: bounds the scratch where tokens use many experts.
constexpr std::int32_t kMaxPairs = 16384;

PackedMatrix packed(const Weight& w) { return {w.data, w.dtype, w.rows, w.cols}; }

/// Bytes from an expert's matrix to the next one's. WeightPlan lays equal matrices at equal distances.
std::int64_t stride_of(const LayerWeights& weights, Weight ExpertWeights::* matrix) {
  const auto address = [&](std::size_t e) {
    return reinterpret_cast<std::intptr_t>((weights.experts[e].*matrix).data);
  };
  if (weights.experts.size() < 2) return 0;
  const std::intptr_t stride = address(1) - address(0);
  for (std::size_t e = 2; e < weights.experts.size(); e++)
    if (address(e) - address(e - 1) != stride)
      throw Error(ErrorCode::internal, "the experts' matrices lie at unequal distances");
  return stride;
}

}  // namespace

void CudaExperts::prepare(const ExpertShape& shape, std::int32_t max_tokens, bool separate_up) {
  shape_ = shape;
  max_rows_ = 0;
  if (shape.n_experts == 0) return;
  tokens_at_once_ = std::min(max_tokens, std::max(1, kMaxPairs / shape.n_used));
  const ExpertPlan small = expert_plan(tokens_at_once_, shape, kSmallGroupRows),
                   large = expert_plan(tokens_at_once_, shape, kLargeGroupRows);
  max_rows_ = std::max(small.max_rows, large.max_rows);
  const auto pairs = static_cast<std::size_t>(tokens_at_once_) * static_cast<std::size_t>(shape.n_used),
             rows = static_cast<std::size_t>(max_rows_), ffn = static_cast<std::size_t>(shape.ffn_hidden);
  logits_ = allocate_array<float>(
      static_cast<std::size_t>(max_tokens) * static_cast<std::size_t>(shape.n_experts), "router logits");
  experts_ = allocate_array<std::int32_t>(pairs, "experts in use");
  weights_ = allocate_array<float>(pairs, "experts in use");
  row_of_ = allocate_array<std::int32_t>(pairs, "experts in use");
  token_of_ = allocate_array<std::int32_t>(rows, "experts in use");
  groups_ = allocate_array<RowGroup>(static_cast<std::size_t>(std::max(small.max_groups, large.max_groups)),
                                     "experts in use");
  h_ = allocate_array<float>(rows * ffn, "activations of experts");
  up_ = allocate_array<float>(separate_up ? rows * ffn : 0, "activations of experts");
  outputs_ = allocate_array<float>(rows * static_cast<std::size_t>(shape.hidden), "outputs of experts");
}

void CudaExperts::run(const ExpertsArgs& args, std::int32_t n_tokens, void* activations) {
  if (args.shape != shape_) throw Error(ErrorCode::internal, "experts of a shape that was not prepared");
  for (std::int32_t first = 0; first < n_tokens; first += tokens_at_once_)
    run_some(args, first, std::min(tokens_at_once_, n_tokens - first), activations);
}

/// Small groups while experts have few rows on average, or where the large ones have no kernel.
std::int32_t CudaExperts::group_rows(const ExpertWeights& weights, std::int32_t n_tokens) const {
  for (const Weight* w : {&weights.gate, &weights.up, &weights.down})
    if (!takes_large_groups(device_, w->dtype)) return kSmallGroupRows;
  const std::int32_t pairs = n_tokens * shape_.n_used;
  return pairs <= kSmallGroupRows * std::min(pairs, shape_.n_experts) ? kSmallGroupRows : kLargeGroupRows;
}

void CudaExperts::run_some(const ExpertsArgs& args, std::int32_t first, std::int32_t n, void* activations) {
  const Stream stream = context_.stream();
  const LayerWeights& weights = *args.weights;
  const ExpertWeights& expert = weights.experts[0];
  const ExpertPlan plan = expert_plan(n, shape_, group_rows(expert, n));
  const ExpertRoutes routes{.experts = experts_.get(),
                            .weights = weights_.get(),
                            .row_of = row_of_.get(),
                            .token_of = token_of_.get(),
                            .groups = groups_.get()};
  route_experts(plan, logits_.get() + static_cast<std::int64_t>(first) * shape_.n_experts, routes, stream);

  float* const x = args.x + first * shape_.hidden;
  const auto multiply = [&](Weight ExpertWeights::* matrix, float* y, Epilogue epilogue) {
    const Weight& w = expert.*matrix;
    matmul_groups(device_,
                  {.weight = packed(w),
                   .activations = activations,
                   .n_tokens = plan.max_rows,
                   .y = y,
                   .y_stride = w.rows,
                   .epilogue = epilogue},
                  {.groups = routes.groups,
                   .n_groups = plan.max_groups,
                   .group_rows = plan.group_rows,
                   .matrix_stride = stride_of(weights, matrix)},
                  stream);
  };
  const auto normalize = [&](const Weight& w) {
    rms_norm_quantize_rows(activation_form(w.dtype), x, static_cast<const float*>(weights.ffn_norm.data),
                           args.rms_norm_eps, routes.token_of, plan.max_rows, w.cols, activations, stream);
  };
  normalize(expert.gate);
  if (expert.gate.layout == kFusedGateUp) {
    multiply(&ExpertWeights::gate, h_.get(), Epilogue::swiglu);
  } else {
    multiply(&ExpertWeights::gate, h_.get(), Epilogue::store);
    if (activation_form(expert.up.dtype) != activation_form(expert.gate.dtype)) normalize(expert.up);
    multiply(&ExpertWeights::up, up_.get(), Epilogue::store);
    silu_mul(h_.get(), up_.get(), h_.get(), plan.max_rows * shape_.ffn_hidden, stream);
  }
  quantize_activations(activation_form(expert.down.dtype), h_.get(), plan.max_rows, expert.down.cols,
                       activations, stream);
  multiply(&ExpertWeights::down, outputs_.get(), Epilogue::store);
  add_expert_outputs(plan, routes, outputs_.get(), shape_.hidden, x, stream);
}

}  // namespace cria::cuda
