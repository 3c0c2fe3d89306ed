// The ops of ops.h on the CPU: each divides its work among the threads and calls the kernels of the ISA
// level.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/activation_buffer.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/ops.h"

namespace cria {

class CpuOps final : public Ops {
 public:
  /// Both outlive it.
  CpuOps(const CpuKernels& kernels, ThreadPool& pool)
      : kernels_(kernels), pool_(pool), shares_(static_cast<std::size_t>(pool.size())) {}

  void embed(const EmbedArgs& args) override;
  void attention_input(const AttentionInputArgs& args) override;
  void paged_attention(const PagedAttentionArgs& args) override;
  void project_residual(const ProjectResidualArgs& args) override;
  void swiglu(const SwigluArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
  void logits(const LogitsArgs& args) override;
  void sample(const SampleArgs& args) override;

  /// y = x · Wᵀ, or y += x · Wᵀ, as the ops multiply.
  void matmul(const Weight& weight, const float* x, std::int64_t n_tokens, float* y, bool accumulate);

 private:
  static constexpr int kMaxProducts = 3;
  struct Product {
    Weight weight;
    float* y = nullptr;
    std::int64_t y_stride = 0;
    bool accumulate = false;
  };
  /// y = x · Wᵀ for several weights that share x, as one parallel loop over all their rows.
  void multiply(const Product* products, int n, const float* x, std::int64_t n_tokens);
  /// h = SiLU(gate) * up and y = down of the rows of routing_, each with its expert's matrices.
  void expert_gate_up(const LayerWeights& weights, const float* x, float* h);
  void expert_down(const LayerWeights& weights, const float* h, float* y);
  /// One parallel loop over the rows of a matrix of all experts in use: body(expert's number among those in
  /// use, first row, end, thread).
  template <class Body>
  void for_expert_chunks(const LayerWeights& weights, Weight ExpertWeights::* matrix, Body&& body);
  /// What adapters add to y = x · Wᵀ. `cols` and `rows` are W's; y [n, rows].
  void add_low_rank(const AdapterRuns& adapters, std::int32_t layer, Projection projection, const float* x,
                    std::int64_t cols, float* y, std::int64_t rows);
  /// swiglu() with the two products apart, for what adapters add to them.
  void adapted_swiglu(const SwigluArgs& args, const float* x);
  static std::int64_t chunk_rows(const Weight& weight, std::int64_t n_tokens);
  /// Calls body(chunk, thread) for all chunks. A thread takes the chunks of its own share in order, so that
  /// it prefetches its own rows, and then takes over chunks of the other shares.
  template <class Body>
  void for_chunks(std::int64_t chunks, Body&& body);
  const float* normalize(const float* x, const Weight& norm, float eps, std::int64_t n_tokens);
  static MatmulRows matmul_rows(const Product& product, const ActivationRows& x, std::int64_t n_tokens);
  /// Rotates q and k of tokens [begin, end) and appends their k and v to the pages.
  void rope_and_append(const AttentionInputArgs& args, float* k, const float* v, std::int64_t begin,
                       std::int64_t end) const;

  /// Makes room for `bytes` of scratch per thread.
  void reserve_scratch(std::size_t bytes);
  std::uint8_t* scratch(int thread) {
    return scratch_.data() + static_cast<std::size_t>(thread) * scratch_stride_;
  }

  const CpuKernels& kernels_;
  ThreadPool& pool_;

  struct alignas(64) Share {
    std::atomic<std::int64_t> next;
    std::int64_t end;
  };
  std::vector<Share> shares_;  // one per thread

  PagedAttention attention_;
  ExpertRouting routing_;
  std::vector<MatmulRows> expert_rows_, expert_up_rows_;  // of the experts in use
  std::vector<std::int64_t> expert_chunks_;               // the first chunk of each, and the number of all
  std::vector<std::uint8_t> scratch_memory_;
  std::span<std::uint8_t> scratch_;
  std::size_t scratch_stride_ = 0;
  // Q, K and V may each need activations of another type.
  ActivationBuffer activations_[kMaxProducts];
  std::vector<float> normalized_, k_, v_, up_, low_rank_, router_logits_, expert_h_, expert_outputs_;
};

}  // namespace cria
