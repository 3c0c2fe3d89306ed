#include "kernels/cpu/activation_buffer.h"

#include "kernels/cpu/quantize.h"
#include "kernels/cpu/scratch.h"

namespace cria {
namespace {

// Elements of padding after each row. Rows a power of two apart would compete for a few sets of the L1 cache,
// which slowed BF16 prefill by a seventh to a quarter.
constexpr std::int64_t kRowPadding = 64;

}  // namespace

ActivationRows ActivationBuffer::prepare(const CpuKernels& kernels, ThreadPool& pool, DType weight_dtype,
                                         const float* x, std::int64_t n_tokens, std::int64_t cols) {
  ActivationRows rows{};
  rows.dtype = activation_dtype(weight_dtype);
  rows.cols = cols;
  rows.stride = rows.dtype == DType::f32 || rows.dtype == DType::q8_k ? cols : cols + kRowPadding;
  switch (rows.dtype) {
    case DType::f32: rows.f32 = x; return rows;
    case DType::f16: {
      float* out = ensure_size(f32_, n_tokens * rows.stride);
      pool.parallel_for(n_tokens, pool.grain_for(n_tokens, 4), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; t++)
          kernels.round_f16(x + t * cols, out + t * rows.stride, cols);
      });
      rows.f32 = out;
      return rows;
    }
    case DType::bf16: {
      std::uint16_t* out = ensure_size(bf16_, n_tokens * rows.stride);
      pool.parallel_for(n_tokens, pool.grain_for(n_tokens, 4), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; t++)
          kernels.round_bf16(x + t * cols, out + t * rows.stride, cols);
      });
      rows.bf16 = out;
      return rows;
    }
    default: break;
  }
  const bool super = rows.dtype == DType::q8_k;
  rows.scale_stride = cols / (super ? 256 : 32);
  rows.sums_stride = (cols / 16 + 15) / 16 * 16;
  std::int8_t* q = ensure_size(q_, n_tokens * rows.stride);
  float* scale = ensure_size(scale_, n_tokens * rows.scale_stride);
  float* sum = rows.dtype == DType::q8_1 ? ensure_size(weighted_sum_, n_tokens * rows.scale_stride) : nullptr;
  std::int16_t* sums16 = ensure_size(sums16_, n_tokens * rows.sums_stride);
  std::int16_t* max_abs_sum16 = super ? ensure_size(max_abs_sum16_, n_tokens * rows.scale_stride) : nullptr;
  pool.parallel_for(n_tokens, pool.grain_for(n_tokens, 4), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      if (super) {
        for (std::int64_t b = 0; b < cols / 256; b++) {
          const std::int64_t at = b * n_tokens + t;
          kernels.quantize_q8_k(x + t * cols + 256 * b, q + 256 * at, scale + at, sums16 + 16 * at,
                                max_abs_sum16 + at, 256);
        }
      } else {
        kernels.quantize_q8_0(x + t * cols, q + t * rows.stride, scale + t * rows.scale_stride,
                              sum ? sum + t * rows.scale_stride : nullptr, sums16 + t * rows.sums_stride,
                              cols);
      }
    }
  });
  rows.q = q;
  rows.scale = scale;
  rows.weighted_sum = sum;
  rows.sums16 = sums16;
  rows.max_abs_sum16 = max_abs_sum16;
  return rows;
}

}  // namespace cria
