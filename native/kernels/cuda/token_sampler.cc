#include "kernels/cuda/token_sampler.h"

#include <algorithm>

namespace cria::cuda {

void TokenSampler::prepare(std::int32_t max_rows, std::int64_t max_vocab) {
  greedy_.reset();  // not ready, should anything below fail
  max_rows_ = max_rows;
  max_vocab_ = max_vocab;
  const auto rows = static_cast<std::size_t>(max_rows);
  workspace_ = allocate_array<std::byte>(greedy_workspace_bytes(max_rows, max_vocab), "sampling");
  greedy_result_ = allocate_pinned_array<std::uint32_t>(2 * rows, "sampling");
  sampling_ = allocate_array<TokenSampling>(rows, "sampling");
  staged_sampling_ = allocate_pinned_array<TokenSampling>(rows, "sampling");
  tokens_ = allocate_array<std::uint32_t>(rows, "sampling");
  sampled_ = allocate_pinned_array<std::uint32_t>(rows, "sampling");
  greedy_ = allocate_array<std::uint32_t>(2 * rows, "sampling");
}

void TokenSampler::clear() {
  fill_bytes(workspace_.get(), 0, greedy_workspace_bytes(max_rows_, max_vocab_), context_.stream());
}

void TokenSampler::launch_greedy(const float* logits, std::int32_t rows, std::int64_t vocab) {
  const auto max_rows = static_cast<std::size_t>(max_rows_);
  // Above 64 rows the place of the kernel's counters depends on their number, and its parts may lie where
  // another launch has counters.
  if (max_rows_ > 64) fill_bytes(workspace_.get(), 0, greedy_workspace_bytes(rows, vocab), context_.stream());
  greedy(logits, rows, vocab, greedy_.get(), reinterpret_cast<float*>(greedy_.get() + max_rows),
         workspace_.get(), context_.stream());
  copy_to_host(greedy_result_.get(), greedy_.get(), 2 * max_rows * sizeof(std::uint32_t), context_.stream());
}

void TokenSampler::sample(const float* logits, std::int64_t vocab, std::span<const SampleRow> rows,
                          std::uint32_t* tokens) {
  const std::size_t n = rows.size();
  std::ranges::transform(rows, staged_sampling_.get(), token_sampling);
  copy_to_device(sampling_.get(), staged_sampling_.get(), n * sizeof(TokenSampling), context_.stream());
  cuda::sample(logits, static_cast<std::int32_t>(n), vocab, sampling_.get(), tokens_.get(),
               context_.stream());
  copy_to_host(sampled_.get(), tokens_.get(), n * sizeof(std::uint32_t), context_.stream());
  synchronize(context_.stream());
  std::copy_n(sampled_.get(), n, tokens);
}

}  // namespace cria::cuda
