// The pieces that the ops of ops.h are made of, and tensors to run them on: what `cria/kernels` gives to
// scripts. The decoder does not use them; their results are those of the fused ops, bit for bit.
//
// As in ops.h: pointers are in the device's memory, matrices are row-major without padding, nothing aliases
// unless it is said, and the order of summation is part of the contract (docs/numerics.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/cancel.h"
#include "kernels/backend.h"
#include "kernels/ops.h"

namespace cria {

/// Memory of one tensor, on a device or on the host; freed with the last copy. `owner` may be null where
/// `bytes` is 0.
struct TensorMemory {
  std::shared_ptr<void> owner;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// Zero-filled memory of the host, aligned to 64 bytes, in huge pages where that pays. Throws
/// ERR_OUT_OF_MEMORY.
TensorMemory allocate_host(std::size_t bytes);

/// out = x / sqrt(mean(x^2) + eps) * weight, per row. Zhang & Sennrich 2019.
struct RmsNormArgs {
  std::int64_t n_rows, cols;
  const float* x;       // [n_rows, cols]
  const float* weight;  // [cols]
  float eps;
  float* out;  // [n_rows, cols]; may be x
};

/// x += y, then out = RMSNorm(x).
struct AddRmsNormArgs {
  std::int64_t n_rows, cols;
  float* x;             // in and out [n_rows, cols]
  const float* y;       // [n_rows, cols]
  const float* weight;  // [cols]
  float eps;
  float* out;  // [n_rows, cols]; may be x, which then holds the norm, or y
};

/// Rotates the leading rope_dim dimensions of each head by its token's angles. Su et al. 2021.
struct RopeArgs {
  std::int64_t n_tokens;
  std::int32_t n_heads, head_dim, rope_dim;
  bool half_layout;  // pairs (i, i + rope_dim / 2), not (2i, 2i + 1)
  const float* x;    // [n_tokens, n_heads, head_dim]
  const float* cos;  // [n_tokens, rope_dim / 2]
  const float* sin;  // [n_tokens, rope_dim / 2]
  float* out;        // [n_tokens, n_heads, head_dim]; may be x
};

/// y = x · Wᵀ, or y += x · Wᵀ. Activations take the form that ops.h's products give them.
struct MatmulArgs {
  std::int64_t n_tokens;
  Weight weight;   // [rows, cols], from pack_weights()
  const float* x;  // [n_tokens, cols]
  float* y;        // [n_tokens, rows]
  bool accumulate;
};

/// out = SiLU(gate) * up. Shazeer 2020.
struct SiluMulArgs {
  std::int64_t n;
  const float* gate;  // [n]
  const float* up;    // [n]
  float* out;         // [n]; may be gate or up
};

/// out = e^(x - max) / sum, per row. -infinity gives 0; NaN, +infinity, or nothing above -infinity makes the
/// row NaN.
struct SoftmaxArgs {
  std::int64_t n_rows, cols;
  const float* x;  // [n_rows, cols]
  float* out;      // [n_rows, cols]; may be x
};

/// The id of each row's largest value, the lowest among equals, and log(sum(e^x)): NaN where a value is NaN
/// or +infinity, or where nothing lies above -infinity.
struct ArgmaxArgs {
  std::int64_t n_rows, cols;
  const float* x;         // [n_rows, cols]
  std::uint32_t* argmax;  // out [n_rows], on the host
  float* log_sum_exp;     // out [n_rows], on the host
};

/// Between float32 and the bytes of a storage type, row by row (the formats: the GGUF specification).
struct QuantizeArgs {
  DType dtype;  // any, the activations' Q8_1 and Q8_K too
  std::int64_t n_rows, cols;
  const float* x;  // [n_rows, cols]
  void* out;       // n_rows rows of row_bytes(dtype, cols)
};
struct DequantizeArgs {
  DType dtype;
  std::int64_t n_rows, cols;
  const void* x;
  float* out;  // [n_rows, cols]
};

/// Pages of a KV cache as plain arrays: [n_pages, n_kv_heads, page_tokens, head_dim] for keys, the same for
/// values.
struct KvCopyArgs {
  AttentionShape shape;
  KvLayer kv;
  std::int32_t n_pages;
  float* k;  // in for write_kv, out for read_kv
  float* v;
};

/// Matrices of weights as the products of a device read them.
struct PackedWeights {
  TensorMemory memory;  // none where they are read where they lie
  std::vector<Weight> weights;
};

/// What a device can do at most, measured now. 0: it has no such instruction, or that was not measured.
struct DeviceCeilings {
  int threads;        // of the host that took part
  double read_gbs;    // 10^9 bytes per second, streamed from memory
  double int8_gmacs;  // 10^9 multiply-adds per second
  double f32_gmacs;
  double bf16_gmacs;
};

/// Measures memory again and again, beside kernels: where others use it too, it gives more at one moment than
/// at the next.
class MemoryProbe {
 public:
  virtual ~MemoryProbe() = default;
  /// 10^9 bytes per second, read and written together, of streams that write `writes` bytes for every `reads`
  /// that they read (1 to 8, and 0 to 8). Takes about a millisecond.
  virtual double gbs(int reads, int writes) = 0;
};

/// The elementary ops of one device, and its memory. Not thread-safe, as Ops.
class ElementaryOps {
 public:
  virtual ~ElementaryOps() = default;

  /// Zero-filled. Throws ERR_OUT_OF_MEMORY. It may outlive the backend.
  virtual TensorMemory allocate(std::size_t bytes) = 0;
  /// The same bytes on the device, or on the host; where both are one, the memory itself.
  virtual TensorMemory to_device(TensorMemory host) = 0;
  virtual TensorMemory to_host(TensorMemory device) = 0;
  /// From one place of the device to another. No overlap.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Matrices for matmul(), and for the ops of ops.h: `host[i]` is on the host, as in a file, and what
  /// specs[i] says. Those of one op come together, as a model brings them (WeightUse). Throws
  /// ERR_OUT_OF_MEMORY.
  virtual PackedWeights pack_weights(std::span<const WeightSpec> specs,
                                     std::span<const TensorMemory> host) = 0;
  /// Microseconds that `op` takes on the device: by its events, or by the host's monotonic clock.
  virtual double time_us(const std::function<void()>& op) = 0;
  /// Takes some seconds. Throws ERR_OUT_OF_MEMORY, ERR_ABORTED.
  virtual DeviceCeilings measure_ceilings(const CancelFlag& cancel) = 0;
  /// Null where the memory is the device's alone: what measure_ceilings() found stays true. It does not
  /// outlive the ops. Throws ERR_OUT_OF_MEMORY.
  virtual std::unique_ptr<MemoryProbe> memory_probe() = 0;

  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void add_rms_norm(const AddRmsNormArgs& args) = 0;
  virtual void rope(const RopeArgs& args) = 0;
  virtual void matmul(const MatmulArgs& args) = 0;
  virtual void silu_mul(const SiluMulArgs& args) = 0;
  virtual void softmax(const SoftmaxArgs& args) = 0;
  virtual void argmax(const ArgmaxArgs& args) = 0;
  virtual void quantize(const QuantizeArgs& args) = 0;
  virtual void dequantize(const DequantizeArgs& args) = 0;
  /// float32 keys and values into the device's layout, rounded to kv.dtype; and back, exactly.
  virtual void write_kv(const KvCopyArgs& args) = 0;
  virtual void read_kv(const KvCopyArgs& args) = 0;
};

}  // namespace cria
