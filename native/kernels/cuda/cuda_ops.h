// The ops of ops.h on CUDA: each is a few launches into the backend's one stream.
//
// Activations are what CudaActivations allocated; a Batch is on the host, and begin() brings it to the
// device. A pass may run with more tokens than it has (PassShape): buffers have room for them. CudaOps is the
// frame of a pass too, since a recorded pass is a recording of these ops.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_experts.h"
#include "kernels/cuda/cuda_weights.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/pass_batch.h"
#include "kernels/cuda/pass_graphs.h"
#include "kernels/cuda/token_sampler.h"

namespace cria::cuda {

class CudaOps final : public Ops, public Passes {
 public:
  /// Both outlive it. `graphs`: passes are recorded and replayed where possible.
  CudaOps(const Context& context, const CudaWeights& weights, bool graphs);

  /// Does nothing when the limits are those of the last call.
  void prepare(const PassLimits& limits) override;
  bool begin(const Pass& pass) override;
  void end() override;
  void cancel() noexcept override;

  void embed(const EmbedArgs& args) override;
  void attention_input(const AttentionInputArgs& args) override;
  void paged_attention(const PagedAttentionArgs& args) override;
  void project_residual(const ProjectResidualArgs& args) override;
  void swiglu(const SwigluArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
  void logits(const LogitsArgs& args) override;
  void sample(const SampleArgs& args) override;

  /// y = x · Wᵀ or y += x · Wᵀ, outside of passes: for CudaElementary.
  void multiply(const Weight& weight, const float* x, std::int32_t n_tokens, float* y, bool accumulate);

 private:
  /// Activations of a product, quantized unless the scratch already holds them in the form that it needs.
  class QuantizedActivations;
  Stream stream() const { return context_.stream(); }
  PassBatch& batch();
  /// The number of rows that the pass runs with: of the batch, or of the rows that get logits.
  std::int32_t padded(std::int32_t n_tokens);
  /// Zeros what must be zero at first and after a pass that failed.
  void clear_workspaces();
  void reserve_activations(std::size_t bytes);

  const Context& context_;
  const CudaWeights& weights_;
  const bool graphs_enabled_;
  MatmulDevice matmul_;
  AttentionSetup attention_;
  CudaExperts experts_;

  // The pass.
  PassLimits limits_;
  std::unique_ptr<PassBatch> batch_;
  PassGraphs graphs_;
  enum class State { idle, running, capturing, replaying, unknown } state_ = State::idle;
  std::int32_t n_tokens_ = 0, n_logit_rows_ = 0;  // without padding

  // Scratch.
  bool must_clear_ = true;  // the workspaces are new, or a pass failed
  DeviceMemory<std::byte> activations_;
  std::size_t activations_bytes_ = 0;
  DeviceMemory<float> qkv_, up_;
  TokenSampler sampler_;
};

}  // namespace cria::cuda
