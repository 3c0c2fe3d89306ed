// RMSNorm, RoPE, SiLU and embedding on CUDA.
#include "core/float_bits.h"
#include "cuda/support.h"
#include "kernels/cuda/embed.h"
#include "kernels/cuda/rmsnorm.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/swiglu.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("rms_norm") {
  CRIA_SEEDED_RNG(rng);
  for (const std::int32_t n : {1, 7, 16, 64, 100, 288, 4096, 5003}) {
    CAPTURE(n);
    const std::int32_t rows = 1 + static_cast<std::int32_t>(rng() % 5);
    const std::size_t cols = static_cast<std::size_t>(n), total = cols * static_cast<std::size_t>(rows);
    const std::vector<float> x = random_floats(rng, total, 3.0f), weight = random_floats(rng, cols);
    const float eps = 1e-5f;
    std::vector<double> expected;
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); r++) {
      double squares = 0;
      for (std::size_t i = 0; i < cols; i++)
        squares += static_cast<double>(x[r * cols + i]) * x[r * cols + i];
      const double scale = 1.0 / std::sqrt(squares / n + static_cast<double>(eps));
      for (std::size_t i = 0; i < cols; i++) expected.push_back(x[r * cols + i] * scale * weight[i]);
    }
    const DeviceArray<float> dx(x), dw(weight), out(total);
    cuda::rms_norm(dx.data(), dw.data(), eps, out.data(), rows, n, nullptr);
    CHECK(relative_error(out.get(), expected) < 1e-6);

    // A row has the same bits alone and in place.
    cuda::rms_norm(dx.data() + (total - cols), dw.data(), eps, out.data(), 1, n, nullptr);
    cuda::rms_norm(dx.data(), dw.data(), eps, dx.data(), rows, n, nullptr);
    const std::vector<float> alone = out.get(), in_place = dx.get();
    CHECK(std::memcmp(alone.data(), in_place.data() + (total - cols), cols * sizeof(float)) == 0);
  }
}

TEST_CASE("add_rms_norm: the sum in one rounding, the norm of it, into x, y or neither") {
  CRIA_SEEDED_RNG(rng);
  for (const std::int32_t n : {1, 31, 256, 257, 1000}) {
    CAPTURE(n);
    const std::int32_t rows = 3;
    const std::size_t total = static_cast<std::size_t>(rows * n);
    const std::vector<float> x = random_floats(rng, total), y = random_floats(rng, total),
                             weight = random_floats(rng, static_cast<std::size_t>(n));
    std::vector<float> sum = x;
    for (std::size_t i = 0; i < total; i++) sum[i] += y[i];
    const DeviceArray<float> dw(weight), dsum(sum), expected(total);
    cuda::rms_norm(dsum.data(), dw.data(), 1e-3f, expected.data(), rows, n, nullptr);
    for (const char* into : {"out", "x", "y"}) {
      CAPTURE(into);
      const DeviceArray<float> dx(x), dy(y), dout(total);
      const DeviceArray<float>& out = *into == 'x' ? dx : *into == 'y' ? dy : dout;
      cuda::add_rms_norm(dx.data(), dy.data(), dw.data(), 1e-3f, out.data(), rows, n, nullptr);
      CHECK(same_bits(out.get(), expected.get()));
      if (*into != 'x') CHECK(same_bits(dx.get(), sum));
      if (*into != 'y') CHECK(same_bits(dy.get(), y));
    }
  }
}

TEST_CASE("rope, both layouts, with the CPU's bits") {
  CRIA_SEEDED_RNG(rng);
  for (const bool half_layout : {false, true})
    for (const std::int32_t head_dim : {2, 8, 80, 128}) {
      CAPTURE(half_layout);
      CAPTURE(head_dim);
      const std::int32_t rope_dim = head_dim > 8 ? head_dim - 8 : head_dim, half = rope_dim / 2;
      const std::int32_t n_heads = 3, n_tokens = 4;
      const std::int64_t stride = n_heads * head_dim + 5;  // with other values between the tokens
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n_tokens * stride));
      std::vector<float> cos, sin, expected = x;
      for (std::int32_t i = 0; i < n_tokens * half; i++) {
        const float angle = static_cast<float>(rng() % 10000);
        cos.push_back(std::cos(angle));
        sin.push_back(std::sin(angle));
      }
      for (std::int32_t t = 0; t < n_tokens; t++)
        for (std::int32_t h = 0; h < n_heads; h++)
          for (std::int32_t i = 0; i < half; i++) {
            const auto a = static_cast<std::size_t>(t * stride + h * head_dim + (half_layout ? i : 2 * i));
            const std::size_t b = a + static_cast<std::size_t>(half_layout ? half : 1);
            const float c = cos[static_cast<std::size_t>(t * half + i)],
                        s = sin[static_cast<std::size_t>(t * half + i)];
            expected[a] = x[a] * c - x[b] * s;
            expected[b] = x[a] * s + x[b] * c;
          }
      std::vector<float> before = x;  // values between the tokens must not change
      for (std::int32_t t = 0; t < n_tokens; t++)
        std::fill_n(before.begin() + t * stride, n_heads * head_dim, 7.0f);
      const DeviceArray<float> dx(x), dcos(cos), dsin(sin), out(before);
      cuda::RopeArgs args{.x = dx.data(),
                          .out = out.data(),
                          .token_stride = stride,
                          .cos = dcos.data(),
                          .sin = dsin.data(),
                          .n_tokens = n_tokens,
                          .n_heads = n_heads,
                          .head_dim = head_dim,
                          .rope_dim = rope_dim,
                          .half_layout = half_layout};
      cuda::rope(args, nullptr);
      CHECK(out.get() == expected);
      args.out = dx.data();
      cuda::rope(args, nullptr);
      CHECK(dx.get() == expected);
    }
}

TEST_CASE("silu_mul over the whole range of floats") {
  std::vector<float> gate;
  for (float g = -120.0f; g <= 120.0f; g += 0.0137f) gate.push_back(g);
  for (const float g : {0.0f, -0.0f, 1e-30f, -1e-30f, 2e38f, -2e38f, NAN}) gate.push_back(g);
  const std::vector<float> up(gate.size(), 1.5f);
  const DeviceArray<float> dg(gate), du(up), out(gate.size());
  cuda::silu_mul(dg.data(), du.data(), out.data(), static_cast<std::int64_t>(gate.size()), nullptr);
  const std::vector<float> y = out.get();
  for (std::size_t i = 0; i < gate.size(); i++) {
    CAPTURE(gate[i]);
    if (std::isnan(gate[i])) {
      CHECK(std::isnan(y[i]));
      continue;
    }
    const double expected = 1.5 * gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i])));
    REQUIRE(std::fabs(y[i] - expected) <= 4e-7 * std::fabs(expected) + 1e-35);
  }
}

TEST_CASE("embed, every float type") {
  CRIA_SEEDED_RNG(rng);
  const std::int32_t vocab = 50, hidden = 100;
  const std::size_t cols = 100, size = 50 * cols;
  const std::vector<std::uint32_t> tokens = {3, 0, 49, 3, 50};
  const std::vector<float> values = random_floats(rng, size);
  std::vector<std::uint16_t> f16, bf16;
  for (const float v : values) f16.push_back(f32_to_f16(v)), bf16.push_back(f32_to_bf16(v));
  const DeviceArray<float> table(values), x(tokens.size() * cols);
  const DeviceArray<std::uint16_t> table_f16(f16), table_bf16(bf16);
  const DeviceArray<std::uint32_t> dt(tokens);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const void* data = dtype == DType::f32   ? static_cast<const void*>(table.data())
                       : dtype == DType::f16 ? static_cast<const void*>(table_f16.data())
                                             : static_cast<const void*>(table_bf16.data());
    cuda::embed(data, dtype, vocab, hidden, dt.data(), static_cast<std::int32_t>(tokens.size()), x.data(),
                nullptr);
    const std::vector<float> got = x.get();
    for (std::size_t t = 0; t < tokens.size(); t++)
      for (std::size_t i = 0; i < cols; i++) {
        if (tokens[t] >= 50) {  // unknown
          REQUIRE(std::isnan(got[t * cols + i]));
          continue;
        }
        const std::size_t at = tokens[t] * cols + i;
        REQUIRE(got[t * cols + i] == (dtype == DType::f32   ? values[at]
                                      : dtype == DType::f16 ? f16_to_f32(f16[at])
                                                            : bf16_to_f32(bf16[at])));
      }
  }
}
