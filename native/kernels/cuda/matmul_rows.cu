// Rows of a packed matrix as float32.
#include "kernels/cuda/matmul_weights.cuh"

namespace cria::cuda {
namespace {

constexpr int kRowThreads = 256;

}  // namespace

// Block (token, part); one thread per element.
static __global__ void __launch_bounds__(kRowThreads)
    dequantize_rows_kernel(const uint8_t* w, int form, const uint32_t* ids, int64_t rows, int64_t cols,
                           float* out) {
  const int64_t token = blockIdx.x, c = static_cast<int64_t>(blockIdx.y) * kRowThreads + thread_in_block();
  if (c >= cols) return;
  const int64_t row = ids ? static_cast<int64_t>(ids[token]) : token;
  if (row >= rows) {
    out[token * cols + c] = float_of_bits(0x7fc00000u);
    return;
  }
  const auto kind = static_cast<WeightForm>(form);
  const WeightLayout layout = weight_layout(kind);
  const uint8_t* chunk =
      w + (row / kTileRows * chunks_of(kind, cols) + c / layout.chunk_cols) * layout.chunk_bytes;
  const int r = static_cast<int>(row % kTileRows), k = static_cast<int>(c % layout.chunk_cols);
  float value = 0.0f;
  switch (kind) {
    case WeightForm::f32: value = value_at<WeightForm::f32>(chunk, r, k); break;
    case WeightForm::f16: value = value_at<WeightForm::f16>(chunk, r, k); break;
    case WeightForm::bf16: value = value_at<WeightForm::bf16>(chunk, r, k); break;
    case WeightForm::q8: value = value_at<WeightForm::q8>(chunk, r, k); break;
    case WeightForm::q8_min: value = value_at<WeightForm::q8_min>(chunk, r, k); break;
    case WeightForm::q4: value = value_at<WeightForm::q4>(chunk, r, k); break;
    case WeightForm::s4: value = value_at<WeightForm::s4>(chunk, r, k); break;
    case WeightForm::k8: value = value_at<WeightForm::k8>(chunk, r, k); break;
    case WeightForm::k8_min: value = value_at<WeightForm::k8_min>(chunk, r, k); break;
    case WeightForm::k4: value = value_at<WeightForm::k4>(chunk, r, k); break;
    case WeightForm::k5: value = value_at<WeightForm::k5>(chunk, r, k); break;
    case WeightForm::k6: value = value_at<WeightForm::k6>(chunk, r, k); break;
    case WeightForm::c4: value = value_at<WeightForm::c4>(chunk, r, k); break;
  }
  out[token * cols + c] = value;
}

void dequantize_rows(const PackedMatrix& matrix, const std::uint32_t* ids, std::int32_t n, float* out,
                     Stream stream) {
  if (n <= 0) return;
  launch({.name = "dequantize_rows",
          .grid = {static_cast<unsigned>(n),
                   static_cast<unsigned>((matrix.cols + kRowThreads - 1) / kRowThreads)},
          .block = {kRowThreads},
          .stream = stream},
         dequantize_rows_kernel, static_cast<const uint8_t*>(matrix.data),
         static_cast<int>(weight_form(matrix.dtype)), ids, matrix.rows, matrix.cols, out);
}

}  // namespace cria::cuda
