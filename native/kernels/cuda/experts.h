// Mixtures of experts on CUDA (ExpertsArgs in ops.h): the router's choice, and the rows of the experts'
// products. All on the device: a recorded pass routes other tokens each time.
#pragma once

#include <cstdint>

#include "kernels/cuda/matmul.h"
#include "kernels/ops.h"

namespace cria::cuda {

/// How n_tokens tokens meet their experts. Each pair of a token and one of its experts is a row of the
/// experts' products, in the order of the experts, then of the tokens; an expert's rows are cut into groups.
struct ExpertPlan {
  std::int32_t n_tokens = 0, n_experts = 0, n_used = 0;
  // Of a group at most: kSmallGroupRows or kLargeGroupRows.
  std::int32_t group_rows = 0;
  // Upper bounds, for launches that do not know the router's choice. Between the rows of two experts there
  // may be some that belong to no pair.
  std::int32_t max_rows = 0, max_groups = 0;
};
ExpertPlan expert_plan(std::int32_t n_tokens, const ExpertShape& shape, std::int32_t group_rows);

/// Arrays on the device.
struct ExpertRoutes {
  // [n_tokens, n_used], by rank: the expert, its weight, and the row of the pair.
  std::int32_t* experts;
  float* weights;
  std::int32_t* row_of;
  // [max_rows]: the token, or -1.
  std::int32_t* token_of;
  // [max_groups]; the last ones may be empty.
  RowGroup* groups;
};

/// Chooses experts and weights from the router's logits [n_tokens, n_experts], and plans the rows. A token
/// gets what the CPU's ExpertRouting gives it, bit for bit.
void route_experts(const ExpertPlan& plan, const float* logits, const ExpertRoutes& routes, Stream stream);

/// x[t, :] += sum over the token's experts of weight * outputs[row, :], largest weight first. outputs:
/// [max_rows, hidden].
void add_expert_outputs(const ExpertPlan& plan, const ExpertRoutes& routes, const float* outputs,
                        std::int64_t hidden, float* x, Stream stream);

}  // namespace cria::cuda
