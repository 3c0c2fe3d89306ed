// Products on CUDA: quantized and F32 weights against the CPU's bits, the others against float64; a token
// alone against the same token in batches.
#include "kernels/cuda/matmul.h"

#include <algorithm>

#include "cuda/support.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/cuda/rmsnorm.h"
#include "kernels/cuda/swiglu.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

std::vector<float> multiply_on_cpu(const TestMatrix& w, const std::vector<float>& x, std::int64_t n_tokens) {
  return multiply(*runnable_levels().back(), w, x.data(), n_tokens);
}

cuda::MatmulDevice device() {
  static const cuda::MatmulDevice device = cuda::prepare_matmul(cuda::device_properties(0));
  return device;
}

/// A matrix on the device, uploaded in two ranges of rows where it has more than one tile.
struct DeviceMatrix {
  DeviceArray<std::uint8_t> bytes;
  cuda::PackedMatrix matrix;

  explicit DeviceMatrix(const TestMatrix& w)
      : bytes(cuda::packed_bytes(w.dtype, w.rows, w.cols)), matrix{bytes.data(), w.dtype, w.rows, w.cols} {
    std::vector<std::uint8_t> packed(bytes.size(), 0xff);
    const std::int64_t first = w.rows > 16 ? 16 : w.rows;
    cuda::repack_rows(w.dtype, w.cols, w.bytes.data(), first, packed.data());
    if (first < w.rows)
      cuda::repack_rows(w.dtype, w.cols,
                        w.bytes.data() + row_bytes(w.dtype, static_cast<std::size_t>(w.cols)) * 16,
                        w.rows - first, packed.data() + cuda::packed_bytes(w.dtype, first, w.cols));
    bytes.set(packed);
  }
};

/// The product, into a y filled with 0.5, which reveals additions and unwritten elements.
std::vector<float> multiply(const cuda::PackedMatrix& w, const float* x, std::int32_t n_tokens,
                            cuda::Epilogue epilogue = cuda::Epilogue::store, std::int64_t y_stride = 0,
                            const cuda::MatmulDevice& on = device(), const cuda::ScaleAndBias& own = {},
                            const cuda::ScaleAndBias& up = {}) {
  const cuda::ActivationForm form = cuda::activation_form(w.dtype);
  const DeviceArray<float> dx(
      std::vector<float>(x, x + static_cast<std::size_t>(n_tokens) * static_cast<std::size_t>(w.cols)));
  const DeviceArray<std::uint8_t> activations(cuda::activation_bytes(form, n_tokens, w.cols));
  cuda::quantize_activations(form, dx.data(), n_tokens, w.cols, activations.data(), nullptr);
  if (!y_stride) y_stride = w.rows;
  const DeviceArray<float> y(
      std::vector<float>(static_cast<std::size_t>((n_tokens - 1) * y_stride + w.rows), 0.5f));
  cuda::matmul(on,
               {.weight = w,
                .activations = activations.data(),
                .n_tokens = n_tokens,
                .y = y.data(),
                .y_stride = y_stride,
                .epilogue = epilogue,
                .own = own,
                .up = up},
               nullptr);
  return y.get();
}

/// Types that differ to the kernels: of those that are codes of a codebook on the device, the first of each
/// form.
const std::vector<DType> kKernelTypes = [] {
  std::vector<DType> types;
  for (const DType dtype : kWeightTypes) {
    const WeightForm form = cuda::weight_form(dtype);
    const auto same = [&](DType other) { return cuda::weight_form(other) == form; };
    if (!cuda::has_codes(form) || std::none_of(types.begin(), types.end(), same)) types.push_back(dtype);
  }
  return types;
}();

bool has_cpu_bits(DType dtype) { return dtype != DType::f16 && dtype != DType::bf16; }

std::vector<float> first_tokens(const std::vector<float>& y, std::int64_t n, std::int64_t rows) {
  return {y.begin(), y.begin() + static_cast<std::ptrdiff_t>(n * rows)};
}

}  // namespace

TEST_CASE("repacked rows dequantize to the CPU's bits") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    const std::int64_t block = traits_of(dtype).block_size;
    for (std::int64_t cols : {1, 3, 9}) {
      cols = block == 1 ? cols * 37 : cols * block;
      CAPTURE(std::string(name_of(dtype)));
      CAPTURE(cols);
      const TestMatrix w(rng, dtype, 37, cols);
      const DeviceMatrix matrix(w);
      const DeviceArray<float> all(w.values.size());
      cuda::dequantize_rows(matrix.matrix, nullptr, 37, all.data(), nullptr);
      CHECK(same_bits(all.get(), w.values));
      const DeviceArray<std::uint32_t> ids({36u, 0u, 17u});
      const DeviceArray<float> three(static_cast<std::size_t>(3 * cols));
      cuda::dequantize_rows(matrix.matrix, ids.data(), 3, three.data(), nullptr);
      std::vector<float> expected;
      for (const std::int64_t r : {36, 0, 17})
        expected.insert(expected.end(), w.values.begin() + r * cols, w.values.begin() + (r + 1) * cols);
      CHECK(same_bits(three.get(), expected));
    }
  }
}

TEST_CASE("products equal float64 within rounding, and the CPU's bits where its order is theirs") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    const std::int64_t block = traits_of(dtype).block_size;
    for (const std::int64_t rows : {1, 3, 8, 21}) {
      for (std::int64_t cols : {1, 5, 9}) {
        cols = block == 1 ? cols * 37 : cols * block;
        CAPTURE(std::string(name_of(dtype)));
        CAPTURE(rows);
        CAPTURE(cols);
        const TestMatrix w(rng, dtype, rows, cols);
        const DeviceMatrix matrix(w);
        const std::int32_t n = 7;
        const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
        const std::vector<float> y = multiply(matrix.matrix, x.data(), n);
        const bool coarse_sum = dtype == DType::q4_1 || dtype == DType::q5_1;
        CHECK(relative_error(y, matmul_reference(w, rounded_activations(dtype, x, cols), n)) <
              (coarse_sum ? 1e-2 : 2e-6));
        if (has_cpu_bits(dtype)) CHECK(same_bits(y, multiply_on_cpu(w, x, n)));
      }
    }
  }
}

TEST_CASE("a token has the same bits alone and in a batch of any size") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kKernelTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = traits_of(dtype).block_size == 1    ? 2120
                              : traits_of(dtype).block_size == 32 ? 2336
                                                                  : 2304;
    const TestMatrix w(rng, dtype, 83, cols);
    const DeviceMatrix matrix(w);
    const std::int32_t n = 129;
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
    const std::vector<float> all = multiply(matrix.matrix, x.data(), n);
    if (has_cpu_bits(dtype)) CHECK(same_bits(all, multiply_on_cpu(w, x, n)));
    for (const std::int32_t token : {0, 5, 128})
      CHECK(same_bits(multiply(matrix.matrix, x.data() + token * cols, 1),
                      {all.begin() + token * w.rows, all.begin() + (token + 1) * w.rows}));
    for (const std::int32_t size : {2, 3, 7, 8, 9, 33}) {
      CAPTURE(size);
      CHECK(same_bits(multiply(matrix.matrix, x.data(), size), first_tokens(all, size, w.rows)));
    }
  }
}

TEST_CASE("epilogues: an addition to the residual, a stride, SiLU(gate) * up of rows by turns") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kKernelTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t rows = 44, cols = 512;
    const TestMatrix gate(rng, dtype, rows, cols), up(rng, dtype, rows, cols);
    const DeviceMatrix gate_matrix(gate), up_matrix(up);
    std::vector<std::uint8_t> packed(cuda::packed_gate_up_bytes(dtype, rows, cols), 0xff);
    const std::size_t row = row_bytes(dtype, static_cast<std::size_t>(cols));
    cuda::repack_gate_up(dtype, cols, gate.bytes.data(), up.bytes.data(), 8, packed.data());
    cuda::repack_gate_up(dtype, cols, gate.bytes.data() + 8 * row, up.bytes.data() + 8 * row, rows - 8,
                         packed.data() + cuda::packed_gate_up_bytes(dtype, 8, cols));
    const DeviceArray<std::uint8_t> both(packed);
    for (const std::int32_t n : {1, 5, 35}) {
      CAPTURE(n);
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
      const std::vector<float> g = multiply(gate_matrix.matrix, x.data(), n),
                               u = multiply(up_matrix.matrix, x.data(), n);
      std::vector<float> sum = g, h(g.size());
      for (float& v : sum) v = 0.5f + v;
      CHECK(same_bits(multiply(gate_matrix.matrix, x.data(), n, cuda::Epilogue::add), sum));

      const std::vector<float> wide =
          multiply(gate_matrix.matrix, x.data(), n, cuda::Epilogue::store, rows + 3);
      for (std::int32_t t = 0; t < n; t++) {
        CHECK(std::memcmp(wide.data() + t * (rows + 3), g.data() + t * rows, rows * sizeof(float)) == 0);
        if (t + 1 < n) CHECK(wide[static_cast<std::size_t>(t * (rows + 3) + rows + 1)] == 0.5f);
      }

      runnable_levels().back()->silu_mul(g.data(), u.data(), h.data(), static_cast<std::int64_t>(g.size()));
      CHECK(same_bits(multiply({both.data(), dtype, rows, cols}, x.data(), n, cuda::Epilogue::swiglu), h));

      // A scale and a bias: one multiplication and one addition before the epilogue.
      const std::vector<float> bias = random_floats(rng, static_cast<std::size_t>(rows)),
                               up_bias = random_floats(rng, static_cast<std::size_t>(rows));
      const DeviceArray<float> d_bias(bias), d_up_bias(up_bias);
      std::vector<float> scaled_g = g, scaled_u = u, scaled_sum = g;
      for (std::size_t i = 0; i < g.size(); i++) {
        scaled_g[i] = g[i] * 1.7f;
        scaled_g[i] = scaled_g[i] + bias[i % bias.size()];
        scaled_u[i] = u[i] + up_bias[i % bias.size()];
        scaled_sum[i] = 0.5f + scaled_g[i];
      }
      const cuda::ScaleAndBias own{.scale = 1.7f, .bias = d_bias.data()}, other{.bias = d_up_bias.data()};
      CHECK(same_bits(multiply(gate_matrix.matrix, x.data(), n, cuda::Epilogue::add, 0, device(), own),
                      scaled_sum));
      runnable_levels().back()->silu_mul(scaled_g.data(), scaled_u.data(), scaled_sum.data(),
                                         static_cast<std::int64_t>(g.size()));
      CHECK(same_bits(multiply({both.data(), dtype, rows, cols}, x.data(), n, cuda::Epilogue::swiglu, 0,
                               device(), own, other),
                      scaled_sum));
      const DeviceArray<float> dg(g), du(u);
      cuda::silu_mul(dg.data(), du.data(), dg.data(), static_cast<std::int64_t>(g.size()), nullptr);
      CHECK(same_bits(dg.get(), h));
    }
  }
}

TEST_CASE("the same bits whatever the tiles' shape and the stages under way") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kKernelTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = 1024;
    const std::int32_t n = 70;
    const TestMatrix w(rng, dtype, 150, cols);
    const DeviceMatrix matrix(w);
    const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
    const std::vector<float> expected = multiply(matrix.matrix, x.data(), n);
    // Few multiprocessors give the largest tiles; little shared memory gives fewer stages, then smaller
    // tiles.
    for (const cuda::MatmulDevice& other :
         {cuda::MatmulDevice{9, 1, device().shared_per_block},
          cuda::MatmulDevice{9, 1000, device().shared_per_block}, cuda::MatmulDevice{8, 1, 99u << 10},
          cuda::MatmulDevice{12, 1, 99u << 10}, cuda::MatmulDevice{7, 1, 64u << 10},
          cuda::MatmulDevice{7, 30, 40u << 10}}) {
      CAPTURE(other.multiprocessors);
      CAPTURE(other.shared_per_block);
      CHECK(same_bits(multiply(matrix.matrix, x.data(), n, cuda::Epilogue::store, 0, other), expected));
    }
  }
}

TEST_CASE("random bytes as blocks: every bit pattern of quants and scales") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    const DTypeTraits& traits = traits_of(dtype);
    if (traits.block_size == 1) continue;
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = 512;
    TestMatrix w(rng, dtype, 40, cols);
    for (std::size_t at = 0; at < w.bytes.size(); at += traits.block_bytes)
      for (;;) {
        std::uint8_t* block = w.bytes.data() + at;
        for (std::size_t i = 0; i < traits.block_bytes; i++) block[i] = static_cast<std::uint8_t>(rng());
        std::vector<float> values(traits.block_size);
        dequantize_row(dtype, block, values.data(), traits.block_size);
        bool moderate = true;
        for (const float v : values) moderate = moderate && std::isfinite(v) && std::fabs(v) < 1e6f;
        if (moderate) break;
      }
    for (std::int64_t r = 0; r < w.rows; r++)
      dequantize_row(dtype, w.bytes.data() + row_bytes(dtype, cols) * static_cast<std::size_t>(r),
                     w.values.data() + r * cols, cols);
    const DeviceMatrix matrix(w);
    // Tokens of large values, small values, equal magnitudes of both signs, and zeros.
    std::vector<float> x = random_floats(rng, 12 * cols);
    for (std::int64_t i = 0; i < cols; i++) {
      x[static_cast<std::size_t>(1 * cols + i)] *= 1e20f;
      x[static_cast<std::size_t>(2 * cols + i)] *= 1e-38f;
      x[static_cast<std::size_t>(3 * cols + i)] = 0.0f;
      x[static_cast<std::size_t>(4 * cols + i)] = rng() % 2 ? 1.0f : -1.0f;
      x[static_cast<std::size_t>(5 * cols + i)] = -1.0f;
      x[static_cast<std::size_t>(6 * cols + i)] = static_cast<float>(rng() % 255) / 2.0f - 63.5f;
    }
    for (const std::int32_t n : {7, 12}) {
      const std::vector<float> y = multiply(matrix.matrix, x.data(), n);
      CHECK(same_bits(y, multiply_on_cpu(w, x, n)));
    }
    const DeviceArray<float> values(w.values.size());
    cuda::dequantize_rows(matrix.matrix, nullptr, 40, values.data(), nullptr);
    CHECK(same_bits(values.get(), w.values));
  }
}

TEST_CASE("a token with a NaN or an infinity gives NaN, and no other token changes") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kKernelTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t rows = 19, cols = 512;
    const TestMatrix w(rng, dtype, rows, cols);
    const DeviceMatrix matrix(w);
    for (const std::int32_t n : {3, 20}) {
      std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
      const std::vector<float> clean = multiply(matrix.matrix, x.data(), n);
      x[static_cast<std::size_t>(cols + 300)] = NAN;
      x[static_cast<std::size_t>(2 * cols + 5)] = -INFINITY;
      std::vector<float> y = multiply(matrix.matrix, x.data(), n);
      for (std::int64_t r = 0; r < rows; r++) {
        CHECK(std::isnan(y[static_cast<std::size_t>(rows + r)]));
        // A float weight of zero times an infinity is NaN, others are infinite.
        CHECK(!std::isfinite(y[static_cast<std::size_t>(2 * rows + r)]));
      }
      std::copy(clean.begin() + rows, clean.begin() + 3 * rows, y.begin() + rows);
      CHECK(same_bits(y, clean));
    }
  }
}

TEST_CASE("RMSNorm and quantization in one equal the two apart") {
  CRIA_SEEDED_RNG(rng);
  using cuda::ActivationForm;
  for (const ActivationForm form : {ActivationForm::f32, ActivationForm::f16, ActivationForm::bf16,
                                    ActivationForm::q8_0, ActivationForm::q8_k}) {
    CAPTURE(static_cast<int>(form));
    for (const std::int64_t n_cols : {256, 2816, 5120}) {
      const std::int64_t cols = form == ActivationForm::q8_k ? n_cols : n_cols + 32;
      const auto width = static_cast<std::size_t>(cols);
      const std::vector<float> x = random_floats(rng, 3 * width, 3.0f), norm = random_floats(rng, width);
      const DeviceArray<float> dx(x), dnorm(norm), normed(3 * width);
      cuda::rms_norm(dx.data(), dnorm.data(), 1e-5f, normed.data(), 3, static_cast<std::int32_t>(cols),
                     nullptr);
      const std::size_t bytes = cuda::activation_bytes(form, 3, cols);
      const DeviceArray<std::uint8_t> apart(bytes), together(bytes);
      for (const auto* buffer : {&apart, &together}) cuda::fill_bytes(buffer->data(), 0, bytes, nullptr);
      cuda::quantize_activations(form, normed.data(), 3, cols, apart.data(), nullptr);
      cuda::rms_norm_quantize(form, dx.data(), dnorm.data(), 1e-5f, 3, cols, together.data(), nullptr);
      CHECK(apart.get() == together.get());
    }
  }
}
