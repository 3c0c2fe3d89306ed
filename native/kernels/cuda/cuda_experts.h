// The experts of a layer on CUDA: grouped products between the router's choice and the sum of the outputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/context.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/matmul.h"
#include "kernels/ops.h"

namespace cria::cuda {

class CudaExperts {
 public:
  /// Both outlive it.
  CudaExperts(const Context& context, const MatmulDevice& device) : context_(context), device_(device) {}

  /// Allocates for passes of up to max_tokens; nothing for a shape without experts. separate_up: gate and up
  /// may be apart. Throws ERR_OUT_OF_MEMORY.
  void prepare(const ExpertShape& shape, std::int32_t max_tokens, bool separate_up);
  /// Rows of activations that run() quantizes at once, at most.
  std::int32_t max_rows() const { return max_rows_; }
  /// [max_tokens, n_experts], for the router's product.
  float* router_logits() const { return logits_.get(); }

  /// The op, from the router's logits on; n_tokens includes padding. activations: scratch for max_rows()
  /// rows.
  void run(const ExpertsArgs& args, std::int32_t n_tokens, void* activations);

 private:
  /// Tokens [first, first + n).
  void run_some(const ExpertsArgs& args, std::int32_t first, std::int32_t n, void* activations);
  std::int32_t group_rows(const ExpertWeights& weights, std::int32_t n_tokens) const;

  const Context& context_;
  const MatmulDevice& device_;
  ExpertShape shape_;
  std::int32_t tokens_at_once_ = 0, max_rows_ = 0;
  DeviceMemory<float> logits_, weights_, h_, up_, outputs_;
  DeviceMemory<std::int32_t> experts_, row_of_, token_of_;
  DeviceMemory<RowGroup> groups_;
};

}  // namespace cria::cuda
