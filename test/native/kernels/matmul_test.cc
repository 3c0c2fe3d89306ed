// Products of every weight type, at every level: against float64, against the portable level bit for bit, and
// one token alone against the same token in a batch.
#include <algorithm>
#include <type_traits>

#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("repacking loses nothing: every row can be gathered again, whatever the level") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const DTypeTraits& traits = traits_of(dtype);
    CHECK(is_repacked(dtype) == (traits.block_size > 1));
    if (!is_repacked(dtype)) continue;
    const BlockShape shape = block_shape(dtype);
    CHECK(shape.cols == static_cast<int>(traits.block_size));
    CHECK(shape.bytes() >= static_cast<int>(traits.block_bytes));
    for (const std::int64_t rows : {1, 31, 32, 33, 77}) {
      const auto cols = static_cast<std::int64_t>(3 * traits.block_size);
      const std::size_t row = row_bytes(dtype, static_cast<std::size_t>(cols));
      std::vector<std::uint8_t> bytes(row * static_cast<std::size_t>(rows));
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng());
      std::vector<float> found(static_cast<std::size_t>(cols)), expected(found.size());
      std::vector<std::uint8_t> first;
      for (const CpuKernels* level : runnable_levels()) {
        CAPTURE(level->isa);
        Scratch matrix = repacked(*level, dtype, rows, cols, bytes.data());
        for (std::int64_t r = 0; r < rows; r++) {
          dequantize_panel_row(dtype, cols, r, matrix.data(), found.data());
          dequantize_row(dtype, bytes.data() + row * static_cast<std::size_t>(r), expected.data(), cols);
          CHECK(same_bits(found, expected));
        }
        const std::vector<std::uint8_t> all(matrix.data(), matrix.data() + matrix_bytes(dtype, rows, cols));
        if (first.empty()) first = all;
        CHECK(all == first);
      }
    }
  }
}

TEST_CASE("products equal float64 within rounding, and the portable level bit for bit") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    const std::int64_t block = traits_of(dtype).block_size;
    for (const std::int64_t rows : {1, 3, 8, 21}) {
      for (std::int64_t cols : {1, 5, 9}) {
        cols = block == 1 ? cols * 37 : cols * block;  // float rows with every kind of tail
        CAPTURE(std::string(name_of(dtype)));
        CAPTURE(rows);
        CAPTURE(cols);
        const TestMatrix w(rng, dtype, rows, cols);
        const std::int64_t n = 7;
        const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
        const std::vector<double> expected = matmul_reference(w, rounded_activations(dtype, x, cols), n);
        const std::vector<float> portable = multiply(*runnable_levels().front(), w, x.data(), n);
        // BF16's products are exact and Q8_1's sum is rounded to half precision; else only float32 sums
        // differ.
        const bool coarse_sum = dtype == DType::q4_1 || dtype == DType::q5_1;
        CHECK(relative_error(portable, expected) < (coarse_sum ? 1e-2 : 2e-6));
        for (const CpuKernels* level : runnable_levels()) {
          CAPTURE(level->isa);
          CHECK(same_bits(multiply(*level, w, x.data(), n), portable));
        }
      }
    }
  }
}

TEST_CASE("a token has the same bits alone and in a batch of any size, in the file's layout and repacked") {
  CRIA_SEEDED_RNG(rng);
  for (const CpuKernels* level : runnable_levels()) {
    for (const DType dtype : kWeightTypes) {
      const auto block = static_cast<std::int64_t>(traits_of(dtype).block_size);
      // Blocks of 32: no whole run of columns, and one and a part of the next, for few tokens and for many;
      // rows likewise.
      for (const std::int64_t cols : {block, 3 * block, 13 * block, 2144 / block * block}) {
        CAPTURE(level->isa);
        CAPTURE(std::string(name_of(dtype)));
        CAPTURE(cols);
        const std::int64_t max_tokens = 33;
        const TestMatrix w(rng, dtype, cols == block ? 7 : 45, cols);
        const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(max_tokens * cols));
        std::vector<float> alone;
        for (std::int64_t t = 0; t < max_tokens; t++) {
          const std::vector<float> y = multiply(*level, w, x.data() + t * cols, 1);
          alone.insert(alone.end(), y.begin(), y.end());
        }
        for (std::int64_t size = 1; size <= max_tokens; size++) {
          CAPTURE(size);
          const std::vector<float> expected(alone.begin(), alone.begin() + size * w.rows);
          CHECK(same_bits(multiply(*level, w, x.data(), size), expected));
          if (size % 8 == 1) CHECK(same_bits(multiply(*level, w, x.data(), size, false), expected));
        }
      }
    }
  }
}

TEST_CASE("a scale and a bias are one multiplication and one addition after the sum, at every level") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : {DType::f32, DType::bf16, DType::q4_k, DType::q8_0})
    for (const std::int64_t rows : {1, 16, 45, 64}) {
      CAPTURE(std::string(name_of(dtype)));
      CAPTURE(rows);
      const std::int64_t cols = 512, n = 5;
      const TestMatrix w(rng, dtype, rows, cols);
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols)),
                               bias = random_floats(rng, static_cast<std::size_t>(rows));
      for (const CpuKernels* level : runnable_levels()) {
        CAPTURE(level->isa);
        std::vector<float> scaled = multiply(*level, w, x.data(), n), both = scaled;
        for (std::size_t i = 0; i < scaled.size(); i++) {
          scaled[i] = scaled[i] * 1.7f;
          both[i] = scaled[i] + bias[i % bias.size()];
        }
        CHECK(same_bits(multiply(*level, w, x.data(), n, true, 1.7f), scaled));
        CHECK(same_bits(multiply(*level, w, x.data(), n, true, 1.7f, bias.data()), both));
      }
    }
}

TEST_CASE("extreme blocks: the integer sums do not overflow") {
  for (const CpuKernels* level : runnable_levels()) {
    for (const DType dtype : kWeightTypes) {
      if (!has_quantizer(dtype)) continue;  // the next test's
      CAPTURE(level->isa);
      CAPTURE(std::string(name_of(dtype)));
      std::mt19937_64 rng(1);
      TestMatrix w(rng, dtype, 8, 256);
      // Every quant, scale and sign at its extreme in turn; the block's own float scales stay as they were.
      for (const int sign : {1, -1}) {
        std::vector<float> values(256);
        for (std::size_t i = 0; i < 256; i++) values[i] = static_cast<float>((i % 32 < 16 ? 1 : -1) * sign);
        for (std::int64_t r = 0; r < w.rows; r++) {
          const std::size_t row = row_bytes(dtype, 256) * static_cast<std::size_t>(r);
          quantize_row(dtype, values.data(), w.bytes.data() + row, 256);
          dequantize_row(dtype, w.bytes.data() + row, w.values.data() + r * 256, 256);
        }
        for (const bool same : {true, false}) {
          std::vector<float> x(256);
          for (std::size_t i = 0; i < 256; i++) x[i] = same ? values[i] : -values[i];
          const std::vector<double> expected = matmul_reference(w, rounded_activations(dtype, x, 256), 1);
          CHECK(relative_error(multiply(*level, w, x.data(), 1), expected) < 1e-3);
        }
      }
    }
  }
}

TEST_CASE(
    "extreme blocks of types without a quantizer: every code and scale alike, activations at their limit") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    if (has_quantizer(dtype)) continue;
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = 512;
    TestMatrix w(rng, dtype, 33, cols);
    const std::size_t row = row_bytes(dtype, static_cast<std::size_t>(cols));
    for (std::int64_t r = 0; r < w.rows; r++) {
      std::uint8_t* bytes = w.bytes.data() + row * static_cast<std::size_t>(r);
      std::fill(bytes, bytes + row, r % 3 == 0 ? 0x00 : r % 3 == 1 ? 0xff : 0x7e);
      visit_dtype(dtype, [&](auto format) {
        using Block = typename decltype(format)::Block;
        for (std::int64_t b = 0; b < cols / Block::kElements; b++) {
          auto& block = reinterpret_cast<Block*>(bytes)[b];
          if constexpr (requires { block.d; }) block.d = 0x3555;
          if constexpr (requires { block.e; }) block.e = 120;
          if constexpr (std::is_same_v<Block, BlockIQ1_M>)
            for (auto& word : block.scales) word = static_cast<std::uint16_t>((word & 0xfff) | 0x3000);
        }
      });
      dequantize_row(dtype, bytes, w.values.data() + r * cols, cols);
    }
    std::vector<float> x(5 * static_cast<std::size_t>(cols));
    for (std::size_t i = 0; i < x.size(); i++) {
      const std::size_t token = i / static_cast<std::size_t>(cols);
      x[i] = token == 0 || (token > 1 && rng() % 2) ? 127.0f : -127.0f;
    }
    for (const std::int64_t n : {1, 3, 5}) {
      const std::vector<double> expected = matmul_reference(w, rounded_activations(dtype, x, cols), n);
      const std::vector<float> portable = multiply(*runnable_levels().front(), w, x.data(), n);
      CHECK(relative_error(portable, expected) < 1e-5);
      for (const CpuKernels* level : runnable_levels()) {
        CAPTURE(level->isa);
        CHECK(same_bits(multiply(*level, w, x.data(), n), portable));
      }
    }
  }
}

TEST_CASE("large activations: sums of groups at the edge of sixteen bits and beyond") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : {DType::q2_k, DType::q3_k, DType::q4_k, DType::q6_k}) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = 768, most_tokens = 25;
    TestMatrix w(rng, dtype, 40, cols);
    // Quants and scales of most rows at an extreme, their float scales as they were.
    const std::size_t block_bytes = traits_of(dtype).block_bytes;
    const std::size_t d = dtype == DType::q4_k ? 0 : dtype == DType::q2_k ? 80 : block_bytes - 2;
    const std::size_t d_bytes = dtype == DType::q3_k || dtype == DType::q6_k ? 2 : 4;
    for (std::int64_t r = 0; r < w.rows; r++) {
      std::uint8_t* row =
          w.bytes.data() + row_bytes(dtype, static_cast<std::size_t>(cols)) * static_cast<std::size_t>(r);
      for (std::size_t i = 0; i < 3 * block_bytes && r % 4 != 0; i++)
        if (i % block_bytes < d || i % block_bytes >= d + d_bytes)
          row[i] = r % 4 == 1 ? 0x00 : r % 4 == 2 ? 0xff : 0x7f;
      dequantize_row(dtype, row, w.values.data() + r * cols, cols);
    }
    // Sixteens whose magnitudes add up to just what fits (32767 / 15 / 2, 32767 / 32), to one more, and to
    // all there can be. Whole numbers and a 127 in each block: they are their own quants.
    for (const int magnitudes : {900, 1023, 1024, 1092, 1093, 16 * 127}) {
      CAPTURE(magnitudes);
      std::vector<float> x(static_cast<std::size_t>(most_tokens * cols));
      for (std::size_t i = 0; i < x.size(); i++) {
        const std::size_t token = i / static_cast<std::size_t>(cols);
        const int magnitude = magnitudes / 16 + (static_cast<int>(i % 16) < magnitudes % 16);
        const bool negative = token % 3 == 0 ? false : token % 3 == 1 ? true : rng() % 2;
        x[i] = static_cast<float>(token % 5 == 4 ? static_cast<int>(rng() % 41) - 20
                                  : negative     ? -magnitude
                                                 : magnitude);
        if (i % 256 == 255) x[i] = 127.0f;
      }
      for (const std::int64_t n :
           {std::int64_t{1}, std::int64_t{4}, std::int64_t{5}, std::int64_t{11}, most_tokens}) {
        CAPTURE(n);
        const std::vector<double> expected = matmul_reference(w, rounded_activations(dtype, x, cols), n);
        const std::vector<float> portable = multiply(*runnable_levels().front(), w, x.data(), n);
        CHECK(relative_error(portable, expected) < 2e-6);
        for (const CpuKernels* level : runnable_levels()) {
          CAPTURE(level->isa);
          CHECK(same_bits(multiply(*level, w, x.data(), n), portable));
        }
      }
    }
  }
}

TEST_CASE("random bytes as blocks: every bit pattern of quants and scales, against float64") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : kWeightTypes) {
    const DTypeTraits& traits = traits_of(dtype);
    if (traits.block_size == 1) continue;
    CAPTURE(std::string(name_of(dtype)));
    TestMatrix w(rng, dtype, 24, 512);
    for (auto& byte : w.bytes) byte = static_cast<std::uint8_t>(rng());
    // The float scales must be finite: clear the exponent's top bits of every half in the block's float
    // fields by drawing until the dequantized row is finite and moderate.
    for (std::int64_t r = 0; r < w.rows; r++) {
      std::uint8_t* row = w.bytes.data() + row_bytes(dtype, 512) * static_cast<std::size_t>(r);
      for (std::size_t b = 0; b < 512 / traits.block_size; b++) {
        std::uint8_t* block = row + b * traits.block_bytes;
        for (;;) {
          std::vector<float> values(traits.block_size);
          dequantize_row(dtype, block, values.data(), traits.block_size);
          bool moderate = true;
          for (const float v : values) moderate = moderate && std::isfinite(v) && std::fabs(v) < 1e6f;
          if (moderate) break;
          for (std::size_t i = 0; i < traits.block_bytes; i++) block[i] = static_cast<std::uint8_t>(rng());
        }
      }
      dequantize_row(dtype, row, w.values.data() + r * 512, 512);
    }
    const std::vector<float> x = random_floats(rng, 5 * 512);
    const std::vector<double> expected = matmul_reference(w, rounded_activations(dtype, x, 512), 5);
    const std::vector<float> portable = multiply(*runnable_levels().front(), w, x.data(), 5);
    const bool coarse_sum = dtype == DType::q4_1 || dtype == DType::q5_1;
    CHECK(relative_error(portable, expected) < (coarse_sum ? 1e-2 : 2e-6));
    for (const CpuKernels* level : runnable_levels()) {
      CAPTURE(level->isa);
      CHECK(same_bits(multiply(*level, w, x.data(), 5), portable));
    }
  }
}
