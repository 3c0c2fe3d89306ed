// Logits -> token on CUDA: greedy, with the log-sum-exp that log-probabilities need, and the stages of
// native/sampler.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace cria::cuda {

/// Bytes of greedy()'s workspace, which must be zero-filled once and may serve the launches of one stream.
std::size_t greedy_workspace_bytes(std::int32_t rows, std::int64_t vocab);
/// argmax[r]: the id of the largest of logits[r, :], the lowest id among equals; log_sum_exp[r]: of the row,
/// NaN when a logit is NaN or +infinity, or all are -infinity (argmax is then some id). logits: [rows,
/// vocab]. All on the device.
///
/// Order of the sum: the row in chunks of 8192 (sample.cu), each against its own maximum, merged in order.
void greedy(const float* logits, std::int32_t rows, std::int64_t vocab, std::uint32_t* argmax,
            float* log_sum_exp, void* workspace, Stream stream);

/// SampleRow as the kernel reads it.
struct TokenSampling {
  double top_p;  // >= 1: off
  std::uint64_t seed, position;
  float inverse_temperature;  // not used when greedy
  float min_distance;         // log(min_p): how far below the largest a logit may be; -infinity: off
  std::int32_t top_k;         // 0: off
  std::int32_t greedy;        // temperature 0, and rows left to the host: the cheapest
};
TokenSampling token_sampling(const SampleRow& row);

/// ids[r]: the token that Sampler::sample (sampler/sampler.h) draws from logits[r, :] with the row's
/// parameters and no bias, penalties or typical-p: the same for the same logits, since both compute with the
/// same integers and the same Philox stream (core/sampling_math.h). kSampleOnHost where the logits hold a NaN
/// or +infinity, or are all -infinity. logits: [rows, vocab], ids: [rows], all on the device.
void sample(const float* logits, std::int32_t rows, std::int64_t vocab, const TokenSampling* sampling,
            std::uint32_t* ids, Stream stream);

}  // namespace cria::cuda
