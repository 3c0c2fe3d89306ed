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
// Orders of summation: docs/gpu.md. A token's result has the same bits alone and in a batch of any
// size, and with quantized and F32 weights the CPU's bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/cuda/runtime.h"

namespace cria::cuda {

// ---- weights on the device: tiles of 16 rows, one after the other (matmul_pack.h) ----

constexpr std::int64_t kTileRows = 16;

/// Bytes of `rows` rows, rounded up to whole tiles. A multiple of 16; a tile begins at packed_bytes() of the
/// rows before it. So matrices of one type and width whose rows are multiples of 16 may be laid end to end
/// and multiplied as one.
std::size_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols);

/// `rows` rows as they lie in a file -> packed_bytes(dtype, rows, cols) bytes at `dst` (aligned to 16), which
/// are all written: missing rows of the last tile become zeros. A range of a matrix's rows may be repacked
/// alone where it begins at a multiple of 16 and is one itself, or ends the matrix. Not parallel; any thread.
void repack_rows(DType dtype, std::int64_t cols, const void* src, std::int64_t rows, void* dst);

/// Gate and up of one type, eight rows of one and eight of the other by turns, for Epilogue::swiglu:
/// packed_gate_up_bytes(dtype, rows, cols) bytes. Ranges as above with 8 for 16.
std::size_t packed_gate_up_bytes(DType dtype, std::int64_t rows, std::int64_t cols);
void repack_gate_up(DType dtype, std::int64_t cols, const void* gate, const void* up, std::int64_t rows,
                    void* dst);

/// A matrix on the device. The address is aligned to 16.
struct PackedMatrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t rows = 0;  // outputs of the product: with swiglu half of what is packed
  std::int64_t cols = 0;  // a multiple of the type's block
};

/// out[t, :] = row ids[t] (or row t where ids is null) as float32, with the bits of the CPU's dequantize_row.
/// out: [n, cols]. The ids are in the device's memory; one that is not below `rows` gives NaN.
void dequantize_rows(const PackedMatrix& matrix, const std::uint32_t* ids, std::int32_t n, float* out,
                     Stream stream);

// ---- activations ----

/// What activations become before they meet a weight: one buffer serves all weights of the same form.
enum class ActivationForm : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,  // blocks of 32: int8, the scale, and for Q4_1 and Q5_1 scale times sum
  q8_k,  // blocks of 256: int8, the scale, sums of 16
};
ActivationForm activation_form(DType weight);
/// Of n_tokens tokens: the buffer must be laid out for exactly as many as the product is given.
std::size_t activation_bytes(ActivationForm form, std::int32_t n_tokens, std::int64_t cols);

/// x: [n_tokens, cols], float32 in the device's memory, aligned to 16 where cols is a multiple of 4. The bits
/// are those of kernels/cpu/quantize.h.
void quantize_activations(ActivationForm form, const float* x, std::int32_t n_tokens, std::int64_t cols,
                          void* activations, Stream stream);
/// The same of RMSNorm(x): the bits of rms_norm() followed by quantize_activations(). norm: [cols].
void rms_norm_quantize(ActivationForm form, const float* x, const float* norm, float eps,
                       std::int32_t n_tokens, std::int64_t cols, void* activations, Stream stream);

// ---- products ----

enum class Epilogue : std::uint8_t {
  store,   // y = product
  add,     // y += product, in one addition
  swiglu,  // y = SiLU(gate) * up, of a matrix from repack_gate_up (of two types: two products and silu_mul)
};

struct MatmulArgs {
  PackedMatrix weight;
  const void* activations = nullptr;  // of activation_form(weight.dtype), n_tokens and weight.cols
  std::int32_t n_tokens = 0;
  float* y = nullptr;         // element (t, r) is y[t * y_stride + r]
  std::int64_t y_stride = 0;  // at least weight.rows
  Epilogue epilogue = Epilogue::store;
};

/// What the launches need to know of a device.
struct MatmulDevice {
  int major = 0;  // compute capability
  int multiprocessors = 0;
  std::size_t shared_per_block = 0;
};
/// Once for each device, by a thread on which it is set.
MatmulDevice prepare_matmul(const DeviceProperties& properties);

void matmul(const MatmulDevice& device, const MatmulArgs& args, Stream stream);

}  // namespace cria::cuda
