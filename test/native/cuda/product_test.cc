// A tiled product of cp.async, ldmatrix, mma and mbarriers, against float64.
#include <array>

#include "core/float_bits.h"
#include "cuda/mutants.h"
#include "cuda/support.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("a tiled product on tensor cores") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [m, n, k] : {std::array{1, 1, 8}, std::array{64, 64, 32}, std::array{70, 130, 200}}) {
    CAPTURE(m);
    const auto rows = static_cast<std::size_t>(m), columns = static_cast<std::size_t>(n),
               depth = static_cast<std::size_t>(k);
    std::vector<std::uint16_t> a, b;
    for (const float v : random_floats(rng, rows * depth)) a.push_back(f32_to_f16(v));
    for (const float v : random_floats(rng, columns * depth)) b.push_back(f32_to_f16(v));
    std::vector<double> expected;
    for (std::size_t i = 0; i < rows; i++)
      for (std::size_t j = 0; j < columns; j++) {
        double sum = 0;
        for (std::size_t e = 0; e < depth; e++)
          sum += static_cast<double>(f16_to_f32(a[i * depth + e])) *
                 static_cast<double>(f16_to_f32(b[j * depth + e]));
        expected.push_back(sum);
      }
    const DeviceArray<std::uint16_t> da(a), db(b);
    for (const bool mbarriers : {false, true}) {
      if (mbarriers && cuda::device_properties(0).major < 8) continue;
      CAPTURE(mbarriers);
      const DeviceArray<float> c(rows * columns);
      tiled_product(Mutation::none, mbarriers, da.data(), db.data(), c.data(), m, n, k);
      CHECK(relative_error(c.get(), expected) < 1e-6);
    }
  }
}
