// Mixtures of experts on the CPU: which experts a batch's tokens use, and the sum of what those return.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/activation_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace cria {

/// The router's choice for the tokens of a batch (ExpertsArgs). Each pair of a token and one of its experts
/// is a row of the experts' products; rows are in the order of the experts, then of the tokens.
class ExpertRouting {
 public:
  /// logits: [n_tokens, n_experts], overwritten.
  void route(const CpuKernels& kernels, ThreadPool& pool, float* logits, std::int64_t n_tokens,
             const ExpertShape& shape);

  std::int64_t rows() const { return row_begin_.back(); }
  /// The groups of rows by expert; a row's source is its token.
  RowGroups groups() const { return {.begin = row_begin_, .source = token_of_.data()}; }
  /// The experts that have rows, ascending.
  std::span<const std::int32_t> active() const { return active_; }

  /// x[t, :] += sum over the token's experts of weight * outputs[row, :], largest weight first.
  void add_outputs(ThreadPool& pool, const float* outputs, std::int64_t hidden, float* x) const;

 private:
  void choose(const float* probabilities, std::int64_t token);
  void group_rows();

  ExpertShape shape_;
  std::int64_t n_tokens_ = 0;
  // [n_tokens, n_used], by rank: the expert, its weight, and the row of the pair.
  std::vector<std::int32_t> expert_of_, row_of_;
  std::vector<float> weight_of_;
  std::vector<std::int32_t> row_begin_{0};  // [n_experts + 1]
  std::vector<std::int32_t> token_of_;      // [rows]
  std::vector<std::int32_t> active_;
};

}  // namespace cria
