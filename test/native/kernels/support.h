// Shared by the kernel tests: fresh random inputs, float64 references, comparison of bits.
#pragma once

#include <algorithm>
#include <array>

#include "core/dtype.h"
#include "core/float_bits.h"
#include "core/thread_pool.h"
#include "kernels/cpu/activation_buffer.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cpu/repack.h"
#include "random_inputs.h"

namespace cria::test {

/// Memory aligned to 64: scratch of a product, or a repacked matrix.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : memory_(bytes + 64) {}
  std::uint8_t* data() {
    return memory_.data() + (64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64) % 64;
  }

 private:
  std::vector<std::uint8_t> memory_;
};

/// A row of `dtype` in a file's layout, of weights of magnitude about `scale`: quantized random values, or of
/// types without a quantizer random blocks with scales to match.
inline void random_row(std::mt19937_64& rng, DType dtype, std::int64_t cols, float scale, std::uint8_t* row) {
  if (has_quantizer(dtype)) {
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(cols), scale);
    quantize_row(dtype, x.data(), row, cols);
    return;
  }
  for (std::size_t i = 0; i < row_bytes(dtype, static_cast<std::size_t>(cols)); i++)
    row[i] = static_cast<std::uint8_t>(rng());
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    for (std::int64_t b = 0; b < cols / Block::kElements; b++) {
      auto& block = reinterpret_cast<Block*>(row)[b];
      const float factor = 0.5f + static_cast<float>(rng() % 64) / 64;
      if constexpr (requires { block.scale4(0); }) {
        const std::uint16_t d = f32_to_f16(scale * factor / (16 * 30 * Block::kUnit));
        if constexpr (requires { block.d; })
          block.d = d;
        else
          for (int i = 0; i < 4; i++)
            block.scales[i] =
                static_cast<std::uint16_t>((block.scales[i] & 0xfff) | (d >> (4 * i) & 15) << 12);
      } else if constexpr (requires { block.d; }) {
        block.d = f32_to_f16(scale * factor);
      } else if constexpr (requires { block.e; }) {
        block.e = static_cast<std::uint8_t>(126 + std::ilogb(scale) - static_cast<int>(rng() % 4));
      } else if constexpr (requires { block.scales; }) {
        for (int g = 0; g < 4; g++) block.scales[g] = static_cast<std::uint8_t>(rng() % 0x38);
      }
    }
  });
}

/// A matrix of `dtype` from random values, and the values it really holds.
struct TestMatrix {
  DType dtype;
  std::int64_t rows, cols;
  std::vector<std::uint8_t> bytes;
  std::vector<float> values;  // [rows, cols]

  TestMatrix(std::mt19937_64& rng, DType type, std::int64_t n_rows, std::int64_t n_cols, float scale = 0.1f)
      : dtype(type), rows(n_rows), cols(n_cols), values(static_cast<std::size_t>(n_rows * n_cols)) {
    const std::size_t row = row_bytes(type, static_cast<std::size_t>(n_cols));
    bytes.resize(row * static_cast<std::size_t>(n_rows));
    for (std::int64_t r = 0; r < n_rows; r++) {
      random_row(rng, type, n_cols, scale, bytes.data() + row * static_cast<std::size_t>(r));
      dequantize_row(type, bytes.data() + row * static_cast<std::size_t>(r), values.data() + r * n_cols,
                     n_cols);
    }
  }
};

/// x as the weight type's activations hold it, for a float64 product that differs only by the order of sums.
inline std::vector<float> rounded_activations(DType weight, const std::vector<float>& x, std::int64_t cols) {
  const DType type = activation_dtype(weight);
  if (type == DType::f32) return x;
  std::vector<float> out(x.size());
  std::vector<std::uint8_t> row(row_bytes(type, static_cast<std::size_t>(cols)));
  for (std::size_t at = 0; at < x.size(); at += static_cast<std::size_t>(cols)) {
    quantize_row(type, x.data() + at, row.data(), cols);
    dequantize_row(type, row.data(), out.data() + at, cols);
  }
  return out;
}

inline std::vector<double> matmul_reference(const TestMatrix& w, const std::vector<float>& x,
                                            std::int64_t n_tokens) {
  std::vector<double> y(static_cast<std::size_t>(n_tokens * w.rows));
  for (std::int64_t t = 0; t < n_tokens; t++)
    for (std::int64_t r = 0; r < w.rows; r++) {
      double sum = 0;
      for (std::int64_t c = 0; c < w.cols; c++)
        sum += static_cast<double>(w.values[static_cast<std::size_t>(r * w.cols + c)]) *
               static_cast<double>(x[static_cast<std::size_t>(t * w.cols + c)]);
      y[static_cast<std::size_t>(t * w.rows + r)] = sum;
    }
  return y;
}

/// A matrix as the CPU keeps it.
inline Scratch repacked(const CpuKernels& kernels, DType dtype, std::int64_t rows, std::int64_t cols,
                        const std::uint8_t* bytes) {
  Scratch matrix(matrix_bytes(dtype, rows, cols));
  repack_rows(kernels, dtype, cols, 0, rows, bytes, matrix.data());
  return matrix;
}

/// x [n_tokens, w.cols] by a matrix with `dtype`, `rows`, `cols` and `bytes`, from the file's layout or from
/// the CPU's own; one thread.
template <class Matrix>
std::vector<float> multiply(const CpuKernels& kernels, const Matrix& w, const float* x, std::int64_t n_tokens,
                            bool repack = true, float scale = 1, const float* bias = nullptr) {
  ThreadPool pool(1);
  ActivationBuffer buffer;
  std::vector<float> y(static_cast<std::size_t>(n_tokens * w.rows), NAN);
  repack = repack && is_repacked(w.dtype);
  Scratch matrix = repack ? repacked(kernels, w.dtype, w.rows, w.cols, w.bytes.data()) : Scratch(0);
  const MatmulRows args{repack ? matrix.data() : w.bytes.data(),
                        w.dtype,
                        repack,
                        w.rows,
                        w.cols,
                        buffer.prepare(kernels, pool, w.dtype, x, n_tokens, w.cols),
                        n_tokens,
                        y.data(),
                        w.rows,
                        false,
                        scale,
                        bias};
  Scratch scratch(kernels.matmul_scratch_bytes(w.dtype, n_tokens));
  kernels.matmul(&args, 0, w.rows, scratch.data());
  return y;
}

inline constexpr auto kWeightTypes = [] {
  constexpr auto kIsWeight = [](const DTypeTraits& traits) { return traits.is_weight; };
  std::array<DType, static_cast<std::size_t>(std::ranges::count_if(kDTypes, kIsWeight))> types{};
  std::size_t n = 0;
  for (const DTypeTraits& traits : kDTypes)
    if (traits.is_weight) types[n++] = traits.dtype;
  return types;
}();

}  // namespace cria::test
