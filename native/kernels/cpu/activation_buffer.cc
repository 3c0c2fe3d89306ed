#include "kernels/cpu/activation_buffer.h"

#include <algorithm>

#include "kernels/cpu/quantize.h"
#include "kernels/cpu/scratch.h"

namespace cria {
namespace {

// Elements of padding after each row. Rows a power of two apart would compete for a few sets of the L1 cache,
// which slowed BF16 prefill by a seventh to a quarter.
constexpr std::int64_t kRowPadding = 64;

}  // namespace

ActivationRows ActivationBuffer::reserve(DType weight_dtype, std::int64_t n, std::int64_t cols) {
  ActivationRows rows{};
  rows.dtype = activation_dtype(weight_dtype);
  rows.cols = cols;
  rows.stride = rows.dtype == DType::f32 || rows.dtype == DType::q8_k ? cols : cols + kRowPadding;
  switch (rows.dtype) {
    case DType::f32:
    case DType::f16: rows.f32 = ensure_size(f32_, n * rows.stride); return rows;
    case DType::bf16: rows.bf16 = ensure_size(bf16_, n * rows.stride); return rows;
    default: break;
  }
  const bool super = rows.dtype == DType::q8_k;
  rows.scale_stride = cols / (super ? 256 : 32);
  rows.sums_stride = (cols / 16 + 15) / 16 * 16;
  rows.q = ensure_size(q_, n * rows.stride);
  rows.scale = ensure_size(scale_, n * rows.scale_stride);
  rows.sums16 = ensure_size(sums16_, n * rows.sums_stride);
  if (rows.dtype == DType::q8_1) rows.weighted_sum = ensure_size(weighted_sum_, n * rows.scale_stride);
  if (super) rows.max_abs_sum16 = ensure_size(max_abs_sum16_, n * rows.scale_stride);
  return rows;
}

void ActivationBuffer::convert_row(const CpuKernels& kernels, const ActivationRows& rows, const float* x,
                                   std::int64_t first, std::int64_t n, std::int64_t t) {
  const std::int64_t row = first + t, cols = rows.cols;
  switch (rows.dtype) {
    case DType::f32: std::copy_n(x, cols, f32_.data() + row * rows.stride); return;
    case DType::f16: kernels.round_f16(x, f32_.data() + row * rows.stride, cols); return;
    case DType::bf16: kernels.round_bf16(x, bf16_.data() + row * rows.stride, cols); return;
    case DType::q8_k:
      for (std::int64_t b = 0; b < cols / 256; b++) {
        const std::int64_t at = first * rows.scale_stride + b * n + t;
        kernels.quantize_q8_k(x + 256 * b, q_.data() + 256 * at, scale_.data() + at, sums16_.data() + 16 * at,
                              max_abs_sum16_.data() + at, 256);
      }
      return;
    default:
      kernels.quantize_q8_0(
          x, q_.data() + row * rows.stride, scale_.data() + row * rows.scale_stride,
          rows.dtype == DType::q8_1 ? weighted_sum_.data() + row * rows.scale_stride : nullptr,
          sums16_.data() + row * rows.sums_stride, cols);
  }
}

ActivationRows ActivationBuffer::prepare(const CpuKernels& kernels, ThreadPool& pool, DType weight_dtype,
                                         const float* x, std::int64_t n_tokens, std::int64_t cols) {
  if (activation_dtype(weight_dtype) == DType::f32)
    return {.dtype = DType::f32, .cols = cols, .stride = cols, .f32 = x};
  const ActivationRows rows = reserve(weight_dtype, n_tokens, cols);
  pool.parallel_for(n_tokens, pool.grain_for(n_tokens, 4), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) convert_row(kernels, rows, x + t * cols, 0, n_tokens, t);
  });
  return rows;
}

ActivationRows ActivationBuffer::prepare_groups(const CpuKernels& kernels, ThreadPool& pool,
                                                DType weight_dtype, const float* x, const RowGroups& groups,
                                                std::int64_t cols) {
  const std::int64_t n = groups.rows();
  if (!groups.source && activation_dtype(weight_dtype) == DType::f32)
    return {.dtype = DType::f32, .cols = cols, .stride = cols, .f32 = x};
  const ActivationRows rows = reserve(weight_dtype, n, cols);
  pool.parallel_for(n, pool.grain_for(n, 4), [&](std::int64_t begin, std::int64_t end) {
    auto group = std::ranges::upper_bound(groups.begin, begin) - 1;  // the last that begins there or before
    for (std::int64_t row = begin; row < end; row++) {
      while (row >= group[1]) ++group;
      const std::int64_t source = groups.source ? groups.source[row] : row;
      convert_row(kernels, rows, x + source * cols, group[0], group[1] - group[0], row - group[0]);
    }
  });
  return rows;
}

ActivationRows ActivationBuffer::group(const ActivationRows& all, std::int64_t first) {
  ActivationRows rows = all;
  if (rows.f32) rows.f32 += first * all.stride;
  if (rows.bf16) rows.bf16 += first * all.stride;
  if (rows.q) rows.q += first * all.stride;
  if (rows.scale) rows.scale += first * all.scale_stride;
  if (rows.weighted_sum) rows.weighted_sum += first * all.scale_stride;
  if (rows.sums16) rows.sums16 += first * all.sums_stride;
  if (rows.max_abs_sum16) rows.max_abs_sum16 += first * all.scale_stride;
  return rows;
}

}  // namespace cria
