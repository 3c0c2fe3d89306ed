#include <algorithm>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/math.cuh"

namespace cria::cuda {
namespace {

constexpr int kRouteWarps = 4;     // one token each
constexpr int kPlanThreads = 256;  // one block
constexpr int kOutputThreads = 256;

struct RouteShared {
  SharedArray<float, kRouteWarps * kMaxExperts> probabilities;
};

struct PlanShared {
  SharedArray<int32_t, kMaxExperts> n_rows, first_row, first_group;
  int32_t n_groups;
};

/// Orders experts by probability, and equal ones by descending index. Probabilities are not negative, so
/// their bits have their order; NaN is the largest.
struct RankKey {
  uint32_t bits, inverse;  // of the probability; of the index
  CRIA_DEVICE bool operator<(const RankKey& other) const {
    return bits < other.bits || (bits == other.bits && inverse < other.inverse);
  }
};

CRIA_DEVICE RankKey max_of_warp(RankKey key) {
  for (int step = 16; step; step /= 2) {
    const RankKey other{__shfl_xor_sync(kFullWarp, key.bits, step),
                        __shfl_xor_sync(kFullWarp, key.inverse, step)};
    if (key < other) key = other;
  }
  return key;
}

/// Softmax of a row of logits in sixteen chains by index mod 16, merged by the tree: the CPU's order.
CRIA_DEVICE void softmax_of_warp(const float* logits, int n, float* out) {
  const int lane = lane_in_warp();
  float top = -INFINITY;
  for (int e = lane; e < n; e += kWarpSize) top = fmaxf(top, logits[e]);
  top = warp_max(top);
  for (int e = lane; e < n; e += kWarpSize) out[e] = exp_exact(logits[e] - top);
  __syncwarp();
  float sum = 0.0f;
  for (int e = lane % 16; e < n; e += 16) sum += out[e];
  for (int step = 8; step; step /= 2) sum = sum + __shfl_xor_sync(kFullWarp, sum, step);
  const float inverse = 1.0f / sum;
  __syncwarp();
  for (int e = lane; e < n; e += kWarpSize) out[e] = out[e] * inverse;
}

}  // namespace

// A warp has a token. The experts in use are found one after the other: each is the largest key below the
// one before.
static __global__ void __launch_bounds__(kRouteWarps* kWarpSize)
    route_experts_kernel(const float* logits, int n_tokens, int n_experts, int n_used, int32_t* experts,
                         float* weights) {
  RouteShared& shared = shared_memory<RouteShared>();
  const int token = static_cast<int>(blockIdx.x) * kRouteWarps + warp_in_block(), lane = lane_in_warp();
  if (token >= n_tokens) return;
  float* const p = &shared.probabilities[warp_in_block() * kMaxExperts];
  softmax_of_warp(logits + static_cast<int64_t>(token) * n_experts, n_experts, p);
  experts += static_cast<int64_t>(token) * n_used;
  weights += static_cast<int64_t>(token) * n_used;
  RankKey last{0xffffffffu, 0xffffffffu};
  float sum = 0.0f;
  for (int i = 0; i < n_used; i++) {
    RankKey best{0, 0};
    for (int e = lane; e < n_experts; e += kWarpSize) {  // each lane reads what it wrote
      const RankKey key{bits_of(p[e]), 0xffffffffu - static_cast<uint32_t>(e)};
      if (key < last && best < key) best = key;
    }
    last = max_of_warp(best);
    const float chosen = float_of_bits(last.bits);
    sum = i == 0 ? chosen : sum + chosen;
    if (lane == 0) {
      experts[i] = static_cast<int32_t>(0xffffffffu - last.inverse);
      weights[i] = chosen;
    }
  }
  __syncwarp();
  for (int i = lane; i < n_used; i += kWarpSize) weights[i] = weights[i] / sum;
}

namespace {

/// Calls found(pair, number) for the pairs of an expert, in order; each warp has experts of its own. Returns
/// their number.
template <class Found>
CRIA_DEVICE int32_t find_pairs(const int32_t* experts, int n_pairs, int expert, Found&& found) {
  const int lane = lane_in_warp();
  int32_t n = 0;
  for (int first = 0; first < n_pairs; first += kWarpSize) {
    const int pair = first + lane;
    const bool own = pair < n_pairs && experts[pair] == expert;
    const uint32_t owners = __ballot_sync(kFullWarp, own);
    if (own) found(pair, n + __popc(owners & ((1u << lane) - 1u)));
    n += __popc(owners);
  }
  return n;
}

/// The first row and group of each expert, by one warp; a lane has consecutive experts. An expert's rows
/// begin at a multiple of `alignment`.
CRIA_DEVICE void place_experts(PlanShared& shared, int n_experts, int group_rows, int alignment) {
  const int lane = lane_in_warp(), each = (n_experts + kWarpSize - 1) / kWarpSize;
  const int begin = min(lane * each, n_experts), end = min(begin + each, n_experts);
  const auto rows_of = [&](int e) { return (shared.n_rows[e] + alignment - 1) / alignment * alignment; };
  const auto groups_of = [&](int e) { return (shared.n_rows[e] + group_rows - 1) / group_rows; };
  int rows = 0, groups = 0;
  for (int e = begin; e < end; e++) {
    rows += rows_of(e);
    groups += groups_of(e);
  }
  int rows_before = rows, groups_before = groups;
  for (int step = 1; step < kWarpSize; step *= 2) {
    const int more_rows = __shfl_up_sync(kFullWarp, rows_before, step),
              more_groups = __shfl_up_sync(kFullWarp, groups_before, step);
    if (lane >= step) {
      rows_before += more_rows;
      groups_before += more_groups;
    }
  }
  if (lane == kWarpSize - 1) shared.n_groups = groups_before;
  rows_before -= rows;
  groups_before -= groups;
  for (int e = begin; e < end; e++) {
    shared.first_row[e] = rows_before;
    shared.first_group[e] = groups_before;
    rows_before += rows_of(e);
    groups_before += groups_of(e);
  }
}

}  // namespace

// One block: a counting sort of the pairs by expert.
static __global__ void __launch_bounds__(kPlanThreads)
    plan_experts_kernel(ExpertPlan plan, int alignment, ExpertRoutes routes) {
  PlanShared& shared = shared_memory<PlanShared>();
  constexpr int kWarps = kPlanThreads / kWarpSize;
  const int n_pairs = plan.n_tokens * plan.n_used, thread = thread_in_block();
  for (int row = thread; row < plan.max_rows; row += kPlanThreads) routes.token_of[row] = -1;
  for (int e = warp_in_block(); e < plan.n_experts; e += kWarps) {
    const int32_t n = find_pairs(routes.experts, n_pairs, e, [](int, int32_t) {});
    if (lane_in_warp() == 0) shared.n_rows[e] = n;
  }
  __syncthreads();
  if (warp_in_block() == 0) place_experts(shared, plan.n_experts, plan.group_rows, alignment);
  __syncthreads();
  for (int e = warp_in_block(); e < plan.n_experts; e += kWarps) {
    if (shared.n_rows[e] == 0) continue;
    const int32_t first = shared.first_row[e];
    find_pairs(routes.experts, n_pairs, e, [&](int pair, int32_t number) {
      routes.token_of[first + number] = pair / plan.n_used;
      routes.row_of[pair] = first + number;
    });
  }
  for (int e = thread; e < plan.n_experts; e += kPlanThreads)
    for (int i = 0; i * plan.group_rows < shared.n_rows[e]; i++)
      routes.groups[shared.first_group[e] + i] = {
          .matrix = e,
          .first_row = shared.first_row[e] + i * plan.group_rows,
          .n_rows = min(plan.group_rows, shared.n_rows[e] - i * plan.group_rows)};
  for (int i = shared.n_groups + thread; i < plan.max_groups; i += kPlanThreads)
    routes.groups[i] = {.matrix = 0, .first_row = 0, .n_rows = 0};
}

// Block (token, part); one thread per element.
static __global__ void __launch_bounds__(kOutputThreads)
    add_expert_outputs_kernel(const int32_t* row_of, const float* weights, int n_used, const float* outputs,
                              int64_t hidden, float* x) {
  const int64_t token = blockIdx.x, c = static_cast<int64_t>(blockIdx.y) * kOutputThreads + thread_in_block();
  if (c >= hidden) return;
  row_of += token * n_used;
  weights += token * n_used;
  float sum = outputs[row_of[0] * hidden + c] * weights[0];
  for (int i = 1; i < n_used; i++) sum = sum + outputs[row_of[i] * hidden + c] * weights[i];
  x[token * hidden + c] = x[token * hidden + c] + sum;
}

ExpertPlan expert_plan(std::int32_t n_tokens, const ExpertShape& shape, std::int32_t group_rows) {
  const std::int32_t pairs = n_tokens * shape.n_used, in_use = std::min(pairs, shape.n_experts);
  return {.n_tokens = n_tokens,
          .n_experts = shape.n_experts,
          .n_used = shape.n_used,
          .group_rows = group_rows,
          .max_rows = pairs + in_use * (group_alignment(group_rows) - 1),
          .max_groups = std::min(pairs, in_use + pairs / group_rows)};
}

void route_experts(const ExpertPlan& plan, const float* logits, const ExpertRoutes& routes, Stream stream) {
  launch({.name = "route_experts",
          .grid = {static_cast<unsigned>((plan.n_tokens + kRouteWarps - 1) / kRouteWarps)},
          .block = {kRouteWarps * kWarpSize},
          .stream = stream},
         route_experts_kernel, logits, plan.n_tokens, plan.n_experts, plan.n_used, routes.experts,
         routes.weights);
  launch({.name = "plan_experts", .grid = {1}, .block = {kPlanThreads}, .stream = stream},
         plan_experts_kernel, plan, group_alignment(plan.group_rows), routes);
}

void add_expert_outputs(const ExpertPlan& plan, const ExpertRoutes& routes, const float* outputs,
                        std::int64_t hidden, float* x, Stream stream) {
  launch({.name = "add_expert_outputs",
          .grid = {static_cast<unsigned>(plan.n_tokens),
                   static_cast<unsigned>((hidden + kOutputThreads - 1) / kOutputThreads)},
          .block = {kOutputThreads},
          .stream = stream},
         add_expert_outputs_kernel, routes.row_of, routes.weights, plan.n_used, outputs, hidden, x);
}

}  // namespace cria::cuda
