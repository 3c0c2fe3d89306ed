// Quantized activations of a batch. The buffers are kept from op to op, so that a step allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/kernel_table.h"

namespace cria {

/// Rows of activations in groups, each of which is multiplied with a matrix of its own.
struct RowGroups {
  // Group g has rows begin[g] .. begin[g + 1] - 1; n_groups + 1 entries, of which the last counts all rows.
  std::span<const std::int32_t> begin;
  // [rows] the row of x that a row is a copy of; null: row i is row i.
  const std::int32_t* source = nullptr;
  std::int64_t rows() const { return begin.back(); }
};

class ActivationBuffer {
 public:
  /// Converts x[n_tokens, cols] to the type that weights of `weight_dtype` multiply with. `x` must live as
  /// long as the result, which is valid until the next prepare() of this buffer.
  ActivationRows prepare(const CpuKernels& kernels, ThreadPool& pool, DType weight_dtype, const float* x,
                         std::int64_t n_tokens, std::int64_t cols);
  /// The same for rows in groups: group() has the activations of each.
  ActivationRows prepare_groups(const CpuKernels& kernels, ThreadPool& pool, DType weight_dtype,
                                const float* x, const RowGroups& groups, std::int64_t cols);
  /// The part of prepare_groups()' result that begins with row `first`.
  static ActivationRows group(const ActivationRows& all, std::int64_t first);

 private:
  /// Makes room for n rows, whose type and strides the result states.
  ActivationRows reserve(DType weight_dtype, std::int64_t n, std::int64_t cols);
  /// Converts x[cols] to row t of the group of n rows that begins with row `first` of the buffer.
  void convert_row(const CpuKernels& kernels, const ActivationRows& rows, const float* x, std::int64_t first,
                   std::int64_t n, std::int64_t t);

  std::vector<float> f32_, scale_, weighted_sum_;
  std::vector<std::uint16_t> bf16_;
  std::vector<std::int8_t> q_;
  std::vector<std::int16_t> sums16_, max_abs_sum16_;
};

}  // namespace cria
