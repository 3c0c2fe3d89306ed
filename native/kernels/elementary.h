// Unfused kernels and tensors for scripts (`cria/kernels`). The decoder does not use them. They give the
// results of the fused ops, bit for bit.
//
// As in ops.h: pointers are in the device's memory, matrices are row-major without padding, no argument
// aliases another unless its comment says so, and the order of summation is part of the contract
// (docs/numerics.md).
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

/// Memory of one tensor, on a device or on the host; freed with the last copy. `owner` may be null if `bytes`
/// is 0.
struct TensorMemory {
  std::shared_ptr<void> owner;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// Zero-filled host memory, aligned to 64 bytes; large tensors lie in huge pages. Throws ERR_OUT_OF_MEMORY.
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

/// y = x · Wᵀ, or y += x · Wᵀ. Activations are quantized as in the products of ops.h.
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

/// Conversion between float32 and a storage type, row by row (formats: the GGUF specification).
struct QuantizeArgs {
  DType dtype;  // any, including Q8_1 and Q8_K, the types of activations
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
  TensorMemory memory;  // none if the device reads the host's tensors in place
  std::vector<Weight> weights;
};

/// The measured peaks of a device. 0: not measured, or the device lacks the instruction.
struct DeviceCeilings {
  int threads;        // of the host, in the measurement
  double read_gbs;    // 10^9 bytes per second, streamed from memory
  double int8_gmacs;  // 10^9 multiply-adds per second
  double f32_gmacs;
  double bf16_gmacs;
};

/// Measures memory bandwidth repeatedly, between runs of kernels: on a shared machine it changes from moment
/// to moment.
class MemoryProbe {
 public:
  virtual ~MemoryProbe() = default;
  /// 10^9 bytes per second, reads and writes together, of streams that write `writes` bytes (0 to 8) for
  /// every `reads` bytes (1 to 8). Takes about a millisecond.
  virtual double gbs(int reads, int writes) = 0;
};

/// The elementary ops of one device, and its memory. Not thread-safe.
class ElementaryOps {
 public:
  virtual ~ElementaryOps() = default;

  /// Zero-filled; may outlive the backend. Throws ERR_OUT_OF_MEMORY.
  virtual TensorMemory allocate(std::size_t bytes) = 0;
  /// A copy on the other side; the memory itself if device and host share theirs.
  virtual TensorMemory to_device(TensorMemory host) = 0;
  virtual TensorMemory to_host(TensorMemory device) = 0;
  /// Within the device's memory, without overlap.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Matrices for matmul() and for the ops of ops.h. `host[i]`, on the host and laid out as in a file, is
  /// what specs[i] describes. The matrices of one op come in one call, in a model's order (WeightUse). Throws
  /// ERR_OUT_OF_MEMORY.
  virtual PackedWeights pack_weights(std::span<const WeightSpec> specs,
                                     std::span<const TensorMemory> host) = 0;
  /// Microseconds that `op` takes, by the device's events or the host's monotonic clock.
  virtual double time_us(const std::function<void()>& op) = 0;
  /// Takes some seconds. Throws ERR_OUT_OF_MEMORY, ERR_ABORTED.
  virtual DeviceCeilings measure_ceilings(const CancelFlag& cancel) = 0;
  /// Null if nobody else uses the device's memory: then measure_ceilings() suffices. Must not outlive this
  /// object. Throws ERR_OUT_OF_MEMORY.
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
  /// float32 keys and values to the device's page layout, rounded to kv.dtype; read_kv() is exact.
  virtual void write_kv(const KvCopyArgs& args) = 0;
  virtual void read_kv(const KvCopyArgs& args) = 0;
};

}  // namespace cria
