// Conversions of every storage type against the CPU's, bit for bit; write_kv and read_kv against append_kv;
// the kernels that measure a device.
#include <numeric>

#include "core/error.h"
#include "core/float_bits.h"
#include "cuda/support.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/quantize.h"
#include "kernels/cuda/ceilings.h"
#include "kernels/cuda/dequantize.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/kv_copy.h"
#include "kernels/cuda/quantize.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

/// Quantizes on the device, and checks that every byte is written and none beyond.
std::vector<std::uint8_t> quantized(DType dtype, const std::vector<float>& x, std::size_t bytes) {
  const DeviceArray<float> from(x);
  const DeviceArray<std::uint8_t> to(std::vector<std::uint8_t>(bytes, 0xa5));
  cuda::quantize(dtype, from.data(), static_cast<std::int64_t>(x.size()), to.data(), nullptr);
  return to.get();
}

/// Blocks that are special cases: zeros, one sign, one value, equal magnitudes of both signs, ties between
/// two levels, very large and very small values.
void add_special_blocks(std::vector<float>& x, std::size_t block) {
  const auto fill = [&](auto value_of) {
    for (std::size_t i = 0; i < block; i++) x.push_back(static_cast<float>(value_of(i)));
  };
  fill([](std::size_t) { return 0.0; });
  fill([](std::size_t) { return -0.0; });
  fill([](std::size_t i) { return static_cast<double>(i); });
  fill([](std::size_t i) { return -1.0 - static_cast<double>(i); });
  fill([](std::size_t i) { return i == 5 ? 3.0 : 0.0; });
  fill([](std::size_t i) { return i % 2 ? 1.0 : -1.0; });
  fill([](std::size_t i) { return (static_cast<double>(i % 32) - 15.5) / 2; });
  fill([](std::size_t i) { return i % 3 ? 1e30 : -3e30; });
  fill([](std::size_t i) { return i % 7 ? 1e-40 : -1e-42; });
  fill([](std::size_t i) { return 1e-7 * static_cast<double>(i % 5); });
}

/// Plain arrays [page, head, token, dim] as the rows [token, head, dim] of append_kv.
std::vector<float> rows_of(const std::vector<float>& plain, std::int32_t heads, std::int32_t dim) {
  std::vector<float> rows(plain.size());
  const auto tokens = static_cast<std::int32_t>(plain.size()) / (heads * dim);
  for (std::int32_t t = 0; t < tokens; t++)
    for (std::int32_t h = 0; h < heads; h++) {
      const std::int32_t page = t / cuda::kKvPageTokens, slot = t % cuda::kKvPageTokens;
      const auto from = plain.begin() + ((page * heads + h) * cuda::kKvPageTokens + slot) * dim;
      std::copy(from, from + dim, rows.begin() + (t * heads + h) * dim);
    }
  return rows;
}

}  // namespace

TEST_CASE("quantize and dequantize, every type: the CPU's bits") {
  CRIA_SEEDED_RNG(rng);
  for (const DTypeTraits& traits : kDTypes) {
    const DType dtype = traits.dtype;
    CAPTURE(traits.name);
    const std::size_t block = std::max<std::size_t>(traits.block_size, 32);
    for (const std::size_t blocks : {1, 7, 33}) {
      CAPTURE(blocks);
      std::vector<float> x = random_floats(rng, blocks * block, 3.0f);
      add_special_blocks(x, block);
      const auto n = static_cast<std::int64_t>(x.size());
      std::vector<std::uint8_t> expected(row_bytes(dtype, x.size()));
      if (has_quantizer(dtype)) {
        quantize_row(dtype, x.data(), expected.data(), n);
        REQUIRE(quantized(dtype, x, expected.size()) == expected);
      } else {
        random_row(rng, dtype, n, 1.0f, expected.data());
        REQUIRE_THROWS_WITH_AS(quantized(dtype, x, expected.size()),
                               doctest::Contains("there is no quantizer"), Error);
      }

      std::vector<float> values(x.size());
      dequantize_row(dtype, expected.data(), values.data(), n);
      const DeviceArray<std::uint8_t> stored(expected);
      const DeviceArray<float> out(x.size());
      cuda::dequantize(dtype, stored.data(), n, out.data(), nullptr);
      REQUIRE(same_bits(out.get(), values));
    }
  }
}

TEST_CASE("quantize: what is no number stays visible, with the CPU's bits") {
  for (const DTypeTraits& traits : kDTypes)
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY, float_from_bits(0x7f812345u)}) {
      const DType dtype = traits.dtype;
      CAPTURE(traits.name);
      CAPTURE(bad);
      if (!has_quantizer(dtype)) continue;
      const std::size_t block = std::max<std::size_t>(traits.block_size, 32);
      std::vector<float> x(3 * block, 1.5f);
      x[block + 11] = bad;  // must not affect the neighbouring blocks
      std::vector<std::uint8_t> expected(row_bytes(dtype, x.size()));
      quantize_row(dtype, x.data(), expected.data(), static_cast<std::int64_t>(x.size()));
      CHECK(quantized(dtype, x, expected.size()) == expected);
    }
}

TEST_CASE("write_kv leaves in the pages what append_kv does, and read_kv brings it back") {
  CRIA_SEEDED_RNG(rng);
  for (const DType dtype : {DType::f32, DType::f16})
    for (const std::int32_t dim : {2, 20, 64, 80}) {
      CAPTURE(dim);
      const std::int32_t pages = 2, heads = 3, tokens = pages * cuda::kKvPageTokens;
      AttentionShape shape;
      shape.n_heads = shape.n_kv_heads = heads;
      shape.head_dim = dim;
      shape.rope_dim = 2;
      const std::size_t page = cuda::kv_page_bytes(shape, dtype), bytes = page * pages,
                        n = static_cast<std::size_t>(tokens * heads * dim);
      const std::vector<float> k = random_floats(rng, n), v = random_floats(rng, n);
      std::vector<std::int32_t> positions(static_cast<std::size_t>(tokens));
      std::iota(positions.begin(), positions.end(), 0);
      const DeviceArray<std::int32_t> at(positions), sequence_of(std::vector<std::int32_t>(positions.size())),
          table(std::vector<std::int32_t>{0, 1});
      // RoPE by angles of zero.
      const DeviceArray<float> cos(std::vector<float>(positions.size(), 1.0f)),
          sin(std::vector<float>(positions.size(), 0.0f));
      const DeviceArray<float> dk(k), dv(v), dk_rows(rows_of(k, heads, dim)), dv_rows(rows_of(v, heads, dim)),
          q(n);
      const DeviceArray<std::byte> appended(bytes), written(bytes);
      cuda::fill_bytes(q.data(), 0, n * sizeof(float), nullptr);
      const auto layer = [&](const DeviceArray<std::byte>& memory) {
        return KvLayer{memory.data(), page, dtype, cuda::kKvPageTokens};
      };
      Batch batch;
      batch.n_tokens = tokens;
      batch.n_sequences = 1;
      batch.positions = at.data();
      batch.sequence_of = sequence_of.data();
      batch.block_table = table.data();
      batch.block_table_stride = 2;
      batch.rope_cos = cos.data();
      batch.rope_sin = sin.data();
      cuda::append_kv({&batch, shape, q.data(), dk_rows.data(), dv_rows.data(), heads * dim, heads * dim,
                       q.data(), layer(appended)},
                      nullptr);
      cuda::write_kv(shape, layer(written), pages, dk.data(), dv.data(), nullptr);
      REQUIRE(written.get() == appended.get());

      const DeviceArray<float> k_back(n), v_back(n);
      cuda::read_kv(shape, layer(written), pages, k_back.data(), v_back.data(), nullptr);
      const auto rounded = [&](std::vector<float> values) {
        if (dtype == DType::f16)
          for (float& x : values) x = f16_to_f32(f32_to_f16(x));
        return values;
      };
      CHECK(same_bits(k_back.get(), rounded(k)));
      CHECK(same_bits(v_back.get(), rounded(v)));
    }
}

TEST_CASE("a device's ceilings: all that it has, and an end when asked for one") {
  cuda::DeviceProperties device = cuda::device_properties(0);
  device.multiprocessors =
      1;  // a part of it: the whole of an emulated one takes minutes with the race detector
  device.l2_bytes = std::size_t{1} << 16;
  const DeviceCeilings found = cuda::measure_ceilings(device, nullptr, CancelFlag{});
  CHECK(found.threads == 0);
  CHECK(found.read_gbs > 0);
  CHECK(found.f32_gmacs > 0);
  CHECK(found.int8_gmacs > 0);
  CHECK((found.bf16_gmacs > 0) == (device.major >= 8));
  CancelFlag cancel;
  cancel.cancel();
  CHECK_THROWS_AS(cuda::measure_ceilings(device, nullptr, cancel), Error);
}
