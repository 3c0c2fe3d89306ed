// Products of weights with activations on CUDA: y[t, r] = sum over k of W[r, k] x[t, k].
//
//   std::vector<std::byte> staged(packed_bytes(dtype, n, cols));   // n rows of the file, n a multiple of 16
//   repack_rows(dtype, cols, file_bytes, n, staged.data());        // then copy to matrix +
//   packed_offset(...)
//
//   const MatmulDevice device = prepare_matmul(device_properties(0));   // once
//   const ActivationForm form = activation_form(weight.dtype);
//   rms_norm_quantize(form, {x, hidden}, norm, eps, n_tokens, hidden, activations, stream);
//   matmul(device, {.weight = weight, .activations = activations, .n_tokens = n, .y = y, .y_stride = rows},
//   stream);
//
// Orders of summation: docs/gpu.md. A token's result has the same bits alone and in a batch of any size; with
// quantized and F32 weights it has the CPU's bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

// ---- weights on the device: tiles of 16 rows, one after the other (matmul_pack.h) ----

constexpr std::int64_t kTileRows = 16;

/// Bytes of `rows` rows, rounded up to whole tiles: a multiple of 16. A tile begins at packed_bytes() of the
/// rows before it, so matrices of one type and width whose rows are multiples of 16 may be laid end to end
/// and multiplied as one.
std::size_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols);

/// Repacks `rows` rows in the file's layout. Writes all packed_bytes(dtype, rows, cols) bytes at `dst`
/// (aligned to 16); missing rows of the last tile become zeros. A range of a matrix's rows may be repacked
/// by itself when it begins at a multiple of 16, and its length is one too or it ends the matrix. Callable
/// from any thread.
void repack_rows(DType dtype, std::int64_t cols, const void* src, std::int64_t rows, void* dst);

/// Repacks gate and up of one type, alternating eight rows of each, for Epilogue::swiglu:
/// packed_gate_up_bytes(dtype, rows, cols) bytes. Ranges as above, with multiples of 8.
std::size_t packed_gate_up_bytes(DType dtype, std::int64_t rows, std::int64_t cols);
void repack_gate_up(DType dtype, std::int64_t cols, const void* gate, const void* up, std::int64_t rows,
                    void* dst);

/// A matrix on the device. The address is aligned to 16.
struct PackedMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  /// Outputs of the product: with swiglu, half the packed rows.
  std::int64_t rows = 0;
  /// A multiple of the type's block.
  std::int64_t cols = 0;
};

/// out[t, :] = row ids[t] (or row t where ids is null) as float32, with the bits of the CPU's dequantize_row.
/// out: [n, cols]. ids: [n], on the device; an id that is not below `rows` gives NaN.
void dequantize_rows(const PackedMatrix& matrix, const std::uint32_t* ids, std::int32_t n, float* out,
                     Stream stream);

// ---- activations ----

/// The form in which activations are multiplied: one buffer serves all weights of the same form.
enum class ActivationForm : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,  // blocks of 32: int8, the scale, and for Q4_1 and Q5_1 scale times sum
  q8_k,  // blocks of 256: int8, the scale, sums of 16
};
ActivationForm activation_form(DType weight);
/// Bytes of n_tokens tokens' activations. The layout depends on n_tokens: the product must take exactly as
/// many.
std::size_t activation_bytes(ActivationForm form, std::int32_t n_tokens, std::int64_t cols);

/// x: [n_tokens, cols], float32 on the device, aligned to 16 where cols is a multiple of 4. Same bits as
/// kernels/cpu/quantize.h.
void quantize_activations(ActivationForm form, const float* x, std::int32_t n_tokens, std::int64_t cols,
                          void* activations, Stream stream);
/// Quantizes RMSNorm(x): same bits as rms_norm() followed by quantize_activations(). norm: [cols].
void rms_norm_quantize(ActivationForm form, const float* x, const float* norm, float eps,
                       std::int32_t n_tokens, std::int64_t cols, void* activations, Stream stream);

/// Row i is RMSNorm(x[source[i], :]), quantized, for n_rows rows; undefined where source[i] is -1. source:
/// on the device.
void rms_norm_quantize_rows(ActivationForm form, const float* x, const float* norm, float eps,
                            const std::int32_t* source, std::int32_t n_rows, std::int64_t cols,
                            void* activations, Stream stream);

// ---- products ----

enum class Epilogue : std::uint8_t {
  store,   // y = product
  add,     // y += product, in one addition
  swiglu,  // y = SiLU(gate) * up, for a matrix from repack_gate_up
};

/// The steps between a row's sum and the epilogue: scale * sum, then + bias[row], each rounded (Weight in
/// ops.h).
struct ScaleAndBias {
  float scale = 1;
  /// [rows], on the device; null: none.
  const float* bias = nullptr;
};

struct MatmulArgs {
  PackedMatrix weight;
  /// In activation_form(weight.dtype), for n_tokens tokens of weight.cols.
  const void* activations = nullptr;
  std::int32_t n_tokens = 0;
  /// Element (t, r) is y[t * y_stride + r]; y_stride is at least weight.rows.
  float* y = nullptr;
  std::int64_t y_stride = 0;
  Epilogue epilogue = Epilogue::store;
  /// Of `weight`; with swiglu, of the gate.
  ScaleAndBias own = {};
  /// With swiglu, of `up`.
  ScaleAndBias up = {};
};

/// Consecutive rows of activations that one of several equal matrices multiplies.
struct RowGroup {
  std::int32_t matrix, first_row, n_rows;
};
/// Rows of a group at most: of few, for which memory is the bound, or of many. All groups of a product are of
/// one kind.
inline constexpr std::int32_t kSmallGroupRows = 8, kLargeGroupRows = 64;
/// A large group begins at a multiple of 4 rows.
constexpr std::int32_t group_alignment(std::int32_t group_rows) {
  return group_rows == kSmallGroupRows ? 1 : 4;
}

struct RowGroups {
  /// [n_groups], on the device: known when the kernel runs, not yet at its launch. Some may have no rows.
  const RowGroup* groups = nullptr;
  std::int32_t n_groups = 0;
  /// kSmallGroupRows or kLargeGroupRows.
  std::int32_t group_rows = 0;
  /// Bytes from a matrix to the next; args.weight is the first.
  std::int64_t matrix_stride = 0;
};

/// The properties of a device that launches depend on.
struct MatmulDevice {
  int major = 0;  // of the compute capability
  int multiprocessors = 0;
  std::size_t shared_per_block = 0;
};
/// Call once for each device, on a thread where it is set: reserves the kernels' dynamic shared memory.
MatmulDevice prepare_matmul(const DeviceProperties& properties);

void matmul(const MatmulDevice& device, const MatmulArgs& args, Stream stream);

/// Whether the products of a weight type take large groups; all take small ones.
bool takes_large_groups(const MatmulDevice& device, DType weight);
/// The rows of each group times its matrix; args.n_tokens counts the rows of the activations, whether or not
/// a group has them. Other rows of y are left as they are. A row has the bits that matmul() gives it.
void matmul_groups(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                   Stream stream);

}  // namespace cria::cuda
