// Chooses tokens from logits on the device and brings them to the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/context.h"
#include "kernels/cuda/sample.h"

namespace cria::cuda {

class TokenSampler {
 public:
  /// `context` outlives it.
  explicit TokenSampler(const Context& context) : context_(context) {}

  /// Allocates for max_rows rows of max_vocab logits. Throws ERR_OUT_OF_MEMORY; then nothing is ready.
  void prepare(std::int32_t max_rows, std::int64_t max_vocab);
  bool is_ready() const { return static_cast<bool>(greedy_); }
  /// Before the first launch, and after one that did not come to its end.
  void clear();

  /// Launches the greedy choice of every row and the copy of the results to the host; both may be recorded.
  void launch_greedy(const float* logits, std::int32_t rows, std::int64_t vocab);
  // Results of the last launch_greedy(), [rows]; valid once the stream has been synchronized.
  const std::uint32_t* greedy_tokens() const { return greedy_result_.get(); }
  const float* log_sum_exps() const {
    return reinterpret_cast<const float*>(greedy_result_.get() + max_rows_);
  }

  /// tokens[r]: as cuda::sample() says. Waits for the result.
  void sample(const float* logits, std::int64_t vocab, std::span<const SampleRow> rows,
              std::uint32_t* tokens);

 private:
  const Context& context_;
  std::int32_t max_rows_ = 0;
  std::int64_t max_vocab_ = 0;

  DeviceMemory<std::byte> workspace_;
  DeviceMemory<std::uint32_t> greedy_;         // [max_rows] tokens, then as many log-sum-exps
  PinnedMemory<std::uint32_t> greedy_result_;  // the same on the host

  DeviceMemory<TokenSampling> sampling_;
  PinnedMemory<TokenSampling> staged_sampling_;
  DeviceMemory<std::uint32_t> tokens_;
  PinnedMemory<std::uint32_t> sampled_;
};

}  // namespace cria::cuda
