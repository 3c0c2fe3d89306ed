#include "kernels/cuda/cuda_elementary.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cuda/ceilings.h"
#include "kernels/cuda/dequantize.h"
#include "kernels/cuda/kv_copy.h"
#include "kernels/cuda/quantize.h"
#include "kernels/cuda/rmsnorm.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/softmax.h"
#include "kernels/cuda/swiglu.h"
#include "kernels/cuda/weight_upload.h"

namespace cria::cuda {
namespace {

// Rows of a launch: the number of blocks has 31 bits.
constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;
// Tokens of a product, which needs scratch for them.
constexpr std::int64_t kMaxTokens = 4096;
// Rows of an argmax, which are the y dimension of a grid.
constexpr std::int64_t kMaxArgmaxRows = 16384;

/// Calls part(first, n) for ranges that cover [0, n), each of at most `max` elements.
template <class Part>
void in_parts(std::int64_t n, std::int64_t max, const Part& part) {
  for (std::int64_t first = 0; first < n; first += max)
    part(first, static_cast<std::int32_t>(std::min(max, n - first)));
}

}  // namespace

// ---- memory ----

TensorMemory CudaElementary::allocate_uninitialised(std::size_t bytes) const {
  if (bytes == 0) return {};
  context_.bind();
  auto* const data = static_cast<std::byte*>(cuda::allocate(bytes, "a tensor"));
  // Freed by any thread, and perhaps after the backend. The driver waits for what still uses it.
  return {std::shared_ptr<void>(data,
                                [device = context_.device()](void* p) {
                                  try {
                                    set_device(device);
                                  } catch (...) {  // a lost device has nothing to be freed
                                  }
                                  release(p);
                                }),
          data, bytes};
}

TensorMemory CudaElementary::allocate(std::size_t bytes) {
  TensorMemory memory = allocate_uninitialised(bytes);
  if (bytes > 0) fill_bytes(memory.data, 0, bytes, context_.stream());
  return memory;
}

TensorMemory CudaElementary::to_device(TensorMemory host) {
  TensorMemory memory = allocate_uninitialised(host.bytes);
  if (host.bytes == 0) return memory;
  copy_to_device(memory.data, host.data, host.bytes, context_.stream());
  synchronize(context_.stream());
  return memory;
}

TensorMemory CudaElementary::to_host(TensorMemory device) {
  TensorMemory memory = allocate_host(device.bytes);
  if (device.bytes == 0) return memory;
  context_.bind();
  copy_to_host(memory.data, device.data, device.bytes, context_.stream());
  synchronize(context_.stream());
  return memory;
}

void CudaElementary::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  context_.bind();
  copy_on_device(to, from, bytes, context_.stream());
}

/// By the way that a model's weights take.
PackedWeights CudaElementary::pack_weights(std::span<const WeightSpec> specs,
                                           std::span<const TensorMemory> host) {
  const WeightPlan plan(specs);
  PackedWeights packed;
  packed.memory = allocate_uninitialised(plan.bytes);
  CudaWeightUpload upload(context_.device(), specs, plan, packed.memory.data);
  for (std::size_t part = 0; part < upload.parts().size(); part++)
    upload.fill(part, [&](const WeightRange& range, void* to) {
      std::memcpy(to, host[range.index].data + range.offset, range.bytes);
    });
  packed.weights = upload.finish();
  return packed;
}

// ---- time ----

double CudaElementary::time_us(const std::function<void()>& op) {
  context_.bind();
  if (!begin_) begin_.reset(create_event());
  if (!end_) end_.reset(create_event());
  record(begin_.get(), context_.stream());
  op();
  record(end_.get(), context_.stream());
  synchronize(end_.get());
  return 1e3 * static_cast<double>(elapsed_milliseconds(begin_.get(), end_.get()));
}

DeviceCeilings CudaElementary::measure_ceilings(const CancelFlag& cancel) {
  context_.bind();
  return cuda::measure_ceilings(context_.properties(), context_.stream(), cancel);
}

// ---- ops ----

void CudaElementary::rms_norm(const cria::RmsNormArgs& a) {
  context_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    cuda::rms_norm(a.x + first * a.cols, a.weight, a.eps, a.out + first * a.cols, n,
                   static_cast<std::int32_t>(a.cols), context_.stream());
  });
}

void CudaElementary::add_rms_norm(const cria::AddRmsNormArgs& a) {
  context_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    const std::int64_t at = first * a.cols;
    cuda::add_rms_norm(a.x + at, a.y + at, a.weight, a.eps, a.out + at, n, static_cast<std::int32_t>(a.cols),
                       context_.stream());
  });
}

void CudaElementary::rope(const cria::RopeArgs& a) {
  context_.bind();
  const std::int64_t stride = static_cast<std::int64_t>(a.n_heads) * a.head_dim, half = a.rope_dim / 2;
  in_parts(a.n_tokens, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    cuda::rope({.x = a.x + first * stride,
                .out = a.out + first * stride,
                .token_stride = stride,
                .cos = a.cos + first * half,
                .sin = a.sin + first * half,
                .n_tokens = n,
                .n_heads = a.n_heads,
                .head_dim = a.head_dim,
                .rope_dim = a.rope_dim,
                .half_layout = a.half_layout},
               context_.stream());
  });
}

void CudaElementary::matmul(const cria::MatmulArgs& a) {
  in_parts(a.n_tokens, kMaxTokens, [&](std::int64_t first, std::int32_t n) {
    ops_.multiply(a.weight, a.x + first * a.weight.cols, n, a.y + first * a.weight.rows, a.accumulate);
  });
}

void CudaElementary::silu_mul(const cria::SiluMulArgs& a) {
  context_.bind();
  cuda::silu_mul(a.gate, a.up, a.out, a.n, context_.stream());
}

void CudaElementary::softmax(const cria::SoftmaxArgs& a) {
  context_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    cuda::softmax(a.x + first * a.cols, a.out + first * a.cols, n, a.cols, context_.stream());
  });
}

void CudaElementary::argmax(const cria::ArgmaxArgs& a) {
  if (a.n_rows == 0) return;
  context_.bind();
  const auto rows = static_cast<std::int32_t>(std::min(a.n_rows, kMaxArgmaxRows));
  if (!argmax_.is_ready() || rows > argmax_rows_ || a.cols > argmax_cols_) {
    argmax_rows_ = std::max(argmax_rows_, rows);
    argmax_cols_ = std::max(argmax_cols_, a.cols);
    argmax_must_clear_ = true;
    argmax_.prepare(argmax_rows_, argmax_cols_);
  }
  if (std::exchange(argmax_must_clear_, true)) argmax_.clear();
  in_parts(a.n_rows, kMaxArgmaxRows, [&](std::int64_t first, std::int32_t n) {
    argmax_.launch_greedy(a.x + first * a.cols, n, a.cols);
    synchronize(context_.stream());
    std::copy_n(argmax_.greedy_tokens(), n, a.argmax + first);
    std::copy_n(argmax_.log_sum_exps(), n, a.log_sum_exp + first);
  });
  argmax_must_clear_ = false;
}

void CudaElementary::quantize(const cria::QuantizeArgs& a) {
  context_.bind();
  cuda::quantize(a.dtype, a.x, a.n_rows * a.cols, a.out, context_.stream());
}

void CudaElementary::dequantize(const cria::DequantizeArgs& a) {
  context_.bind();
  cuda::dequantize(a.dtype, a.x, a.n_rows * a.cols, a.out, context_.stream());
}

void CudaElementary::write_kv(const cria::KvCopyArgs& a) {
  context_.bind();
  cuda::write_kv(a.shape, a.kv, a.n_pages, a.k, a.v, context_.stream());
}

void CudaElementary::read_kv(const cria::KvCopyArgs& a) {
  context_.bind();
  cuda::read_kv(a.shape, a.kv, a.n_pages, a.k, a.v, context_.stream());
}

}  // namespace cria::cuda
