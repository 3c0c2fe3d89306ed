#include "kernels/cpu/cpu_elementary.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/float_bits.h"
#include "kernels/cpu/cpu_weights.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/machine.h"
#include "kernels/cpu/memory_streams.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/repack.h"

namespace cria {
namespace {

constexpr std::size_t kAlignment = 64;
// Floats that a thread takes at a time, through the cache and past it.
constexpr std::int64_t kChunkFloats = std::int64_t{1} << 14;
constexpr std::int64_t kStreamChunkFloats = std::int64_t{1} << 18;
// Larger outputs are stored past the cache.
constexpr std::int64_t kStreamFloats = std::int64_t{1} << 20;
// The longest row of softmax that stays in L2 beside its input.
constexpr std::int64_t kScratchFloats = std::int64_t{1} << 16;

/// Rows of a chunk. Chunks are larger when kernels prefetch the next row, which should be the thread's own.
std::int64_t rows_at_once(std::int64_t cols, bool streams = false) {
  return std::max<std::int64_t>(1, (streams ? kStreamChunkFloats : kChunkFloats) / cols);
}

/// Whether `n` floats at `out` should and can be stored past the cache; one kernel call writes `unit` floats.
bool may_stream(const float* out, std::int64_t n, std::int64_t unit) {
  return n >= kStreamFloats && unit % 16 == 0 && reinterpret_cast<std::uintptr_t>(out) % kAlignment == 0;
}

std::int64_t kv_row(const KvCopyArgs& a, std::int32_t page, std::int32_t head, std::int32_t token) {
  return ((static_cast<std::int64_t>(page) * a.shape.n_kv_heads + head) * kCpuPageTokens + token) *
         a.shape.head_dim;
}

}  // namespace

void CpuElementary::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

PackedWeights CpuElementary::pack_weights(std::span<const WeightSpec> specs,
                                          std::span<const TensorMemory> host) {
  const auto bytes_of = [](const WeightSpec& s) {
    return is_repacked(s.dtype)
               ? (matrix_bytes(s.dtype, s.rows, s.cols) + kAlignment - 1) / kAlignment * kAlignment
               : 0;
  };
  std::size_t bytes = 0;
  for (const WeightSpec& s : specs) bytes += bytes_of(s);
  PackedWeights packed;
  if (bytes > 0) packed.memory = allocate_host(bytes);
  std::byte* at = packed.memory.data;
  for (std::size_t i = 0; i < specs.size(); i++) {
    const WeightSpec& s = specs[i];
    packed.weights.push_back({.data = host[i].data, .dtype = s.dtype, .rows = s.rows, .cols = s.cols});
    if (!is_repacked(s.dtype)) continue;
    const std::size_t row = row_bytes(s.dtype, static_cast<std::size_t>(s.cols));
    pool_.parallel_for((s.rows + kPanelRows - 1) / kPanelRows, 4, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t first = begin * kPanelRows, n = std::min(end * kPanelRows, s.rows) - first;
      repack_rows(kernels_, s.dtype, s.cols, first, n, host[i].data + static_cast<std::size_t>(first) * row,
                  at);
    });
    packed.weights.back().data = at;
    packed.weights.back().layout = kPanels;
    at += bytes_of(s);
  }
  return packed;
}

DeviceCeilings CpuElementary::measure_ceilings(const CancelFlag& cancel) {
  return measure_machine(pool_.size(), cancel, kernels_.isa);
}

std::unique_ptr<MemoryProbe> CpuElementary::memory_probe() { return std::make_unique<MemoryStreams>(pool_); }

double CpuElementary::time_us(const std::function<void()>& op) {
  const auto begin = std::chrono::steady_clock::now();
  op();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

void CpuElementary::rms_norm(const RmsNormArgs& a) {
  const bool streams = a.out != a.x && may_stream(a.out, a.n_rows * a.cols, a.cols);
  const std::int64_t grain = pool_.grain_for(a.n_rows, rows_at_once(a.cols, streams));
  pool_.parallel_for(a.n_rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const float* const x = a.x + begin * a.cols;
    float* const out = a.out + begin * a.cols;
    if (streams) return kernels_.rms_norm_stream(x, a.weight, a.eps, out, a.cols, end - begin);
    for (std::int64_t r = 0; r < end - begin; r++)
      kernels_.rms_norm(x + r * a.cols, a.weight, a.eps, out + r * a.cols, a.cols);
  });
}

void CpuElementary::add_rms_norm(const AddRmsNormArgs& a) {
  const bool streams = a.out != a.x && a.out != a.y && may_stream(a.out, a.n_rows * a.cols, a.cols);
  const std::int64_t grain = pool_.grain_for(a.n_rows, rows_at_once(a.cols, streams));
  pool_.parallel_for(a.n_rows, grain, [&](std::int64_t begin, std::int64_t end) {
    float* const x = a.x + begin * a.cols;
    const float* const y = a.y + begin * a.cols;
    float* const out = a.out + begin * a.cols;
    if (streams) return kernels_.add_rms_norm_stream(x, y, a.weight, a.eps, out, a.cols, end - begin);
    for (std::int64_t r = 0; r < end - begin; r++)
      kernels_.add_rms_norm(x + r * a.cols, y + r * a.cols, a.weight, a.eps, out + r * a.cols, a.cols);
  });
}

void CpuElementary::rope(const RopeArgs& a) {
  const std::int64_t half = a.rope_dim / 2, token = static_cast<std::int64_t>(a.n_heads) * a.head_dim;
  const bool whole = a.head_dim % 16 == 0 && (a.half_layout ? half : a.rope_dim) % 16 == 0;
  const bool streams = whole && a.out != a.x && may_stream(a.out, a.n_tokens * token, token);
  const auto kernel = streams ? kernels_.rope_stream : kernels_.rope_to;
  const std::int64_t grain = pool_.grain_for(a.n_tokens, rows_at_once(token, streams));
  pool_.parallel_for(a.n_tokens, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      const RopeRow row{.cos = a.cos + t * half,
                        .sin = a.sin + t * half,
                        .rope_dim = a.rope_dim,
                        .head_dim = a.head_dim,
                        .n_heads = a.n_heads,
                        .half_layout = a.half_layout};
      kernel(a.x + t * token, a.out + t * token, &row);
    }
  });
}

void CpuElementary::matmul(const MatmulArgs& a) { ops_.matmul(a.weight, a.x, a.n_tokens, a.y, a.accumulate); }

void CpuElementary::silu_mul(const SiluMulArgs& a) {
  const bool streams = a.out != a.gate && a.out != a.up && may_stream(a.out, a.n, 16);
  const std::int64_t vectors = (streams ? kStreamChunkFloats : kChunkFloats) / 16;
  const std::int64_t grain = 16 * pool_.grain_for((a.n + 15) / 16, vectors);
  pool_.parallel_for(a.n, grain, [&](std::int64_t begin, std::int64_t end) {
    const auto kernel = streams && (end - begin) % 16 == 0 ? kernels_.silu_mul_stream : kernels_.silu_mul;
    kernel(a.gate + begin, a.up + begin, a.out + begin, end - begin);
  });
}

void CpuElementary::softmax(const SoftmaxArgs& a) {
  const bool streams =
      a.out != a.x && a.cols <= kScratchFloats && may_stream(a.out, a.n_rows * a.cols, a.cols);
  const std::int64_t scratch = 2 * a.cols;  // per thread
  const auto bytes = static_cast<std::size_t>(pool_.size() * scratch) * sizeof(float);
  if (streams && scratch_.bytes < bytes) scratch_ = allocate_host(bytes);
  const std::int64_t grain = pool_.grain_for(a.n_rows, rows_at_once(a.cols, streams));
  pool_.parallel_for(a.n_rows, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
    const float* const x = a.x + begin * a.cols;
    float* const out = a.out + begin * a.cols;
    if (streams) {
      float* const own = reinterpret_cast<float*>(scratch_.data) + thread * scratch;
      return kernels_.softmax_stream(x, own, out, a.cols, end - begin);
    }
    for (std::int64_t r = 0; r < end - begin; r++) kernels_.softmax(x + r * a.cols, out + r * a.cols, a.cols);
  });
}

void CpuElementary::argmax(const ArgmaxArgs& a) {
  pool_.parallel_for(a.n_rows, 1, [&](std::int64_t i, std::int64_t) {
    kernels_.argmax(a.x + i * a.cols, a.cols, a.argmax + i, a.log_sum_exp + i);
  });
}

void CpuElementary::quantize(const QuantizeArgs& a) {
  const std::size_t bytes = row_bytes(a.dtype, static_cast<std::size_t>(a.cols));
  pool_.parallel_for(a.n_rows, rows_at_once(a.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r++)
      quantize_row(a.dtype, a.x + r * a.cols,
                   static_cast<std::byte*>(a.out) + static_cast<std::size_t>(r) * bytes, a.cols);
  });
}

void CpuElementary::dequantize(const DequantizeArgs& a) {
  const std::size_t bytes = row_bytes(a.dtype, static_cast<std::size_t>(a.cols));
  pool_.parallel_for(a.n_rows, rows_at_once(a.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r++)
      dequantize_row(a.dtype, static_cast<const std::byte*>(a.x) + static_cast<std::size_t>(r) * bytes,
                     a.out + r * a.cols, a.cols);
  });
}

void CpuElementary::write_kv(const KvCopyArgs& a) {
  const bool f32 = a.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(a.shape.head_dim) * (f32 ? 4 : 2);
  pool_.parallel_for(a.n_pages, 1, [&](std::int64_t page, std::int64_t) {
    auto* at =
        reinterpret_cast<std::uint8_t*>(a.kv.pages) + static_cast<std::size_t>(page) * a.kv.page_stride;
    for (std::int32_t h = 0; h < a.shape.n_kv_heads; h++, at += block_bytes)
      for (std::int32_t t = 0; t < kCpuPageTokens; t++) {
        const std::int64_t row = kv_row(a, static_cast<std::int32_t>(page), h, t);
        kernels_.append_kv(a.k + row, a.v + row, a.shape.head_dim, at, t, f32);
      }
  });
}

void CpuElementary::read_kv(const KvCopyArgs& a) {
  const std::int32_t dim = a.shape.head_dim, padded = padded_head_dim(dim);
  const bool f32 = a.kv.dtype == DType::f32;
  const std::size_t block_bytes = kv_block_elements(dim) * (f32 ? 4 : 2);
  pool_.parallel_for(a.n_pages, 1, [&](std::int64_t page, std::int64_t) {
    const std::byte* block = a.kv.pages + static_cast<std::size_t>(page) * a.kv.page_stride;
    const auto at = [&](std::int64_t i) {
      if (f32) return reinterpret_cast<const float*>(block)[i];
      return f16_to_f32(reinterpret_cast<const std::uint16_t*>(block)[i]);
    };
    for (std::int32_t h = 0; h < a.shape.n_kv_heads; h++, block += block_bytes)
      for (std::int32_t t = 0; t < kCpuPageTokens; t++) {
        const std::int64_t row = kv_row(a, static_cast<std::int32_t>(page), h, t);
        for (std::int32_t d = 0; d < dim; d++) {
          a.k[row + d] = at(d * kCpuPageTokens + t);
          a.v[row + d] =
              at(static_cast<std::int64_t>(kCpuPageTokens) * dim + static_cast<std::int64_t>(t) * padded + d);
        }
      }
  });
}

}  // namespace cria
