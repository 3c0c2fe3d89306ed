// The ops of ops.h on CUDA: each is a few launches into the backend's one stream.
//
// Activations are what allocate_activations() gave; a Batch is on the host and was brought to the device by
// begin_pass(). A pass may run with more tokens than it has (PassShape): buffers have room for them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/owned.h"
#include "kernels/cuda/pass_batch.h"
#include "kernels/cuda/pass_graphs.h"
#include "kernels/cuda/weight_upload.h"

namespace cria::cuda {

class CudaOps : public Backend {
 public:
  /// `graphs`: passes are recorded and replayed where that can be.
  CudaOps(int device, bool graphs);
  ~CudaOps() override;

  /// Nothing where the limits are those of the last time.
  void prepare_passes(const PassLimits& limits) override;
  bool begin_pass(const Pass& pass) override;
  void end_pass() override;
  void cancel_pass() noexcept override;

  void embed(const EmbedArgs& args) override;
  void attention_input(const AttentionInputArgs& args) override;
  void paged_attention(const PagedAttentionArgs& args) override;
  void project_residual(const ProjectResidualArgs& args) override;
  void swiglu(const SwigluArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
  void logits(const LogitsArgs& args) override;
  void sample(const SampleArgs& args) override;
  bool draw(const DrawArgs& args) override;

  // ---- for CudaElementary, which has its launches in the same stream ----

  /// y = x · Wᵀ or y += x · Wᵀ, outside of passes.
  void multiply(const Weight& weight, const float* x, std::int32_t n_tokens, float* y, bool accumulate);
  /// Sets the device for the calling thread: engines, loads and disposals have different ones.
  void bind() const { set_device(device_); }
  Stream stream() const { return stream_.get(); }
  int device() const { return device_; }
  const DeviceProperties& properties() const { return properties_; }

 protected:
  /// What the scratch must be large enough for.
  void note_weights(std::span<const WeightSpec> specs, const WeightPlan& plan);

  const int device_;
  DeviceProperties properties_;

 private:
  /// Quantizes activations for a product unless the scratch holds them in that form already.
  class Activations;
  PassBatch& batch();
  /// Of the batch, or of the rows that get logits: as many as the pass runs with.
  std::int32_t padded(std::int32_t n_tokens);
  /// Zeros what must be so at first, and after a pass that failed.
  void clear_workspaces();
  void reserve_activations(std::size_t bytes);
  void choose_greedy(const float* logits, std::int32_t rows, std::int64_t vocab);

  OwnedStream stream_;
  const bool graphs_enabled_;
  MatmulDevice matmul_;
  AttentionSetup attention_;

  PassLimits limits_;
  std::unique_ptr<PassBatch> batch_;
  PassGraphs graphs_;
  enum class State { idle, running, capturing, replaying, unknown } state_ = State::idle;
  std::int32_t n_tokens_ = 0, n_logit_rows_ = 0;  // of the pass, without padding

  // Scratch.
  bool must_clear_ = true;                    // they are new, or a pass failed
  std::int64_t most_cols_ = 0, most_up_ = 0;  // of the matrices; rows of those up that are not interleaved
  DeviceMemory<std::byte> activations_;
  std::size_t activations_bytes_ = 0;
  DeviceMemory<float> qkv_, up_;

  // What draw() takes and gives, on the device and on the host.
  struct Draws;
  std::unique_ptr<Draws> draws_;

  // The greedy choice among the last pass's logits, made with them.
  DeviceMemory<std::byte> greedy_workspace_;
  DeviceMemory<std::uint32_t> greedy_;         // [max_sequences] tokens, then as many log-sum-exps
  PinnedMemory<std::uint32_t> greedy_result_;  // the same on the host
  const float* logits_ = nullptr;              // where passes leave their logits
  std::int32_t greedy_rows_ = 0;               // of the last pass; 0 when the choice was overwritten
};

}  // namespace cria::cuda
