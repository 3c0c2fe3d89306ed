// RMSNorm on CUDA against float64.
#include "cuda/support.h"
#include "kernels/cuda/rmsnorm.h"

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

    // A row has the same bits alone, and in place.
    cuda::rms_norm(dx.data() + (total - cols), dw.data(), eps, out.data(), 1, n, nullptr);
    cuda::rms_norm(dx.data(), dw.data(), eps, dx.data(), rows, n, nullptr);
    const std::vector<float> alone = out.get(), in_place = dx.get();
    CHECK(std::memcmp(alone.data(), in_place.data() + (total - cols), cols * sizeof(float)) == 0);
  }
}
