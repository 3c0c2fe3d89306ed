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

constexpr std::int64_t kMaxRows = std::int64_t{1} << 30;  // of a launch: blocks are counted in 31 bits
constexpr std::int64_t kMaxTokens = 4096;                 // of a product, for which there must be scratch

/// part(first, n) over n things, at most so many at a time.
template <class Part>
void in_parts(std::int64_t n, std::int64_t most, const Part& part) {
  for (std::int64_t first = 0; first < n; first += most)
    part(first, static_cast<std::int32_t>(std::min(most, n - first)));
}

}  // namespace

// ---- memory ----

TensorMemory CudaElementary::allocate_uninitialised(std::size_t bytes) const {
  if (bytes == 0) return {};
  ops_.bind();
  auto* const data = static_cast<std::byte*>(cuda::allocate(bytes, "a tensor"));
  // Freed by any thread, and perhaps after the backend. The driver waits for what still uses it.
  return {std::shared_ptr<void>(data,
                                [device = ops_.device()](void* p) {
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
  if (bytes > 0) fill_bytes(memory.data, 0, bytes, ops_.stream());
  return memory;
}

TensorMemory CudaElementary::to_device(TensorMemory host) {
  TensorMemory memory = allocate_uninitialised(host.bytes);
  if (host.bytes == 0) return memory;
  copy_to_device(memory.data, host.data, host.bytes, ops_.stream());
  synchronize(ops_.stream());
  return memory;
}

TensorMemory CudaElementary::to_host(TensorMemory device) {
  TensorMemory memory = allocate_host(device.bytes);
  if (device.bytes == 0) return memory;
  ops_.bind();
  copy_to_host(memory.data, device.data, device.bytes, ops_.stream());
  synchronize(ops_.stream());
  return memory;
}

void CudaElementary::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  ops_.bind();
  copy_on_device(to, from, bytes, ops_.stream());
}

/// By the way that a model's weights take.
PackedWeights CudaElementary::pack_weights(std::span<const WeightSpec> specs,
                                           std::span<const TensorMemory> host) {
  const WeightPlan plan(specs);
  PackedWeights packed;
  packed.memory = allocate_uninitialised(plan.bytes);
  CudaWeightUpload upload(ops_.device(), specs, plan, packed.memory.data);
  for (std::size_t part = 0; part < upload.parts().size(); part++)
    upload.fill(part, [&](const WeightRange& range, void* to) {
      std::memcpy(to, host[range.index].data + range.offset, range.bytes);
    });
  packed.weights = upload.finish();
  return packed;
}

// ---- time ----

double CudaElementary::time_us(const std::function<void()>& op) {
  ops_.bind();
  if (!begin_) begin_.reset(create_event());
  if (!end_) end_.reset(create_event());
  record(begin_.get(), ops_.stream());
  op();
  record(end_.get(), ops_.stream());
  synchronize(end_.get());
  return 1e3 * static_cast<double>(elapsed_milliseconds(begin_.get(), end_.get()));
}

DeviceCeilings CudaElementary::measure_ceilings(const CancelFlag& cancel) {
  ops_.bind();
  return cuda::measure_ceilings(ops_.properties(), ops_.stream(), cancel);
}

// ---- ops ----

void CudaElementary::rms_norm(const cria::RmsNormArgs& a) {
  ops_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    cuda::rms_norm(a.x + first * a.cols, a.weight, a.eps, a.out + first * a.cols, n,
                   static_cast<std::int32_t>(a.cols), ops_.stream());
  });
}

void CudaElementary::add_rms_norm(const cria::AddRmsNormArgs& a) {
  ops_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    const std::int64_t at = first * a.cols;
    cuda::add_rms_norm(a.x + at, a.y + at, a.weight, a.eps, a.out + at, n, static_cast<std::int32_t>(a.cols),
                       ops_.stream());
  });
}

void CudaElementary::rope(const cria::RopeArgs& a) {
  ops_.bind();
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
               ops_.stream());
  });
}

void CudaElementary::matmul(const cria::MatmulArgs& a) {
  in_parts(a.n_tokens, kMaxTokens, [&](std::int64_t first, std::int32_t n) {
    ops_.multiply(a.weight, a.x + first * a.weight.cols, n, a.y + first * a.weight.rows, a.accumulate);
  });
}

void CudaElementary::silu_mul(const cria::SiluMulArgs& a) {
  ops_.bind();
  cuda::silu_mul(a.gate, a.up, a.out, a.n, ops_.stream());
}

void CudaElementary::softmax(const cria::SoftmaxArgs& a) {
  ops_.bind();
  in_parts(a.n_rows, kMaxRows, [&](std::int64_t first, std::int32_t n) {
    cuda::softmax(a.x + first * a.cols, a.out + first * a.cols, n, a.cols, ops_.stream());
  });
}

void CudaElementary::quantize(const cria::QuantizeArgs& a) {
  ops_.bind();
  cuda::quantize(a.dtype, a.x, a.n_rows * a.cols, a.out, ops_.stream());
}

void CudaElementary::dequantize(const cria::DequantizeArgs& a) {
  ops_.bind();
  cuda::dequantize(a.dtype, a.x, a.n_rows * a.cols, a.out, ops_.stream());
}

void CudaElementary::write_kv(const cria::KvCopyArgs& a) {
  ops_.bind();
  cuda::write_kv(a.shape, a.kv, a.n_pages, a.k, a.v, ops_.stream());
}

void CudaElementary::read_kv(const cria::KvCopyArgs& a) {
  ops_.bind();
  cuda::read_kv(a.shape, a.kv, a.n_pages, a.k, a.v, ops_.stream());
}

}  // namespace cria::cuda
