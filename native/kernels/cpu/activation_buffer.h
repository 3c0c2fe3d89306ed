// Quantized activations of a batch. The buffers are kept from op to op, so that a step allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/kernel_table.h"

namespace cria {

class ActivationBuffer {
 public:
  /// Converts x[n_tokens, cols] to the type that weights of `weight_dtype` multiply with. `x` must live as
  /// long as the result, which is valid until the next prepare() of this buffer.
  ActivationRows prepare(const CpuKernels& kernels, ThreadPool& pool, DType weight_dtype, const float* x,
                         std::int64_t n_tokens, std::int64_t cols);

 private:
  std::vector<float> f32_, scale_, weighted_sum_;
  std::vector<std::uint16_t> bf16_;
  std::vector<std::int8_t> q_;
  std::vector<std::int16_t> sums16_, max_abs_sum16_;
};

}  // namespace cria
