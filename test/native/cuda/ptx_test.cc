// Each function of ptx_*.cuh against a plain reference, on the emulator and on a device alike.
#include <algorithm>
#include <bit>

#include "core/float_bits.h"
#include "cuda/ptx_kernels.h"
#include "cuda/support.h"

using namespace cria;
using namespace cria::test;

namespace {

using Words = std::vector<std::uint32_t>;

Words random_words(std::mt19937_64& rng, std::size_t n) {
  Words v(n);
  for (std::uint32_t& x : v) x = static_cast<std::uint32_t>(rng());
  return v;
}

/// Finite halves whose products and sums are finite too.
std::uint16_t random_half(std::mt19937_64& rng) {
  return static_cast<std::uint16_t>((rng() & 0x8000u) | (0x2000u + rng() % 0x2800u));
}

/// The half nearest to an exact value, by bisection: independent of any rounding code.
std::uint16_t nearest_half(long double exact, bool negative_zero) {
  if (exact == 0) return negative_zero ? 0x8000 : 0;
  const std::uint16_t sign = exact < 0 ? 0x8000 : 0;
  const long double magnitude = exact < 0 ? -exact : exact;
  unsigned low = 0, high = 0x7c00;  // low: the largest half that is not above the value
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (static_cast<long double>(f16_to_f32(static_cast<std::uint16_t>(middle))) <= magnitude ? low : high) =
        middle;
  }
  const auto value = [](unsigned h) {
    return h == 0x7c00 ? 65536.0L : static_cast<long double>(f16_to_f32(static_cast<std::uint16_t>(h)));
  };
  const long double below = magnitude - value(low), above = value(low + 1) - magnitude;
  const unsigned nearest = below < above || (below == above && low % 2 == 0) ? low : low + 1;
  return static_cast<std::uint16_t>(sign | nearest);
}

}  // namespace

TEST_CASE("conversions of narrow floats") {
  CRIA_SEEDED_RNG(rng);
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); i++) all[i] = static_cast<std::uint16_t>(i);
  const DeviceArray<std::uint16_t> halves(all);
  const DeviceArray<float> from_f16(all.size()), from_bf16(all.size());
  widen(halves.data(), from_f16.data(), from_bf16.data(), static_cast<int>(all.size()));
  const std::vector<float> f16 = from_f16.get(), bf16 = from_bf16.get();
  for (std::size_t i = 0; i < all.size(); i++) {
    const int exponent = all[i] >> 10 & 31, mantissa = all[i] & 1023;
    if (exponent == 31 && mantissa)
      CHECK(std::isnan(f16[i]));
    else {
      const double magnitude = exponent == 31  ? HUGE_VAL
                               : exponent == 0 ? std::ldexp(mantissa, -24)
                                               : std::ldexp(1024 + mantissa, exponent - 25);
      REQUIRE(static_cast<double>(f16[i]) == (all[i] & 0x8000 ? -magnitude : magnitude));
    }
    if (!std::isnan(bf16[i])) REQUIRE(float_bits(bf16[i]) == i << 16);
  }

  std::vector<float> x = random_floats(rng, 5000, 100.0f);
  for (std::size_t i = 0; i < 2000; i++) {  // every exponent, and ties
    x[i] = float_from_bits(static_cast<std::uint32_t>(rng()));
    if (i % 3 == 0) x[i] = float_from_bits((float_bits(x[i]) & ~0x1fffu) | 0x1000u);
    if (i % 3 == 1) x[i] = float_from_bits((float_bits(x[i]) & ~0xffffu) | 0x8000u);
    if (std::isnan(x[i])) x[i] = 1.0f;
  }
  const DeviceArray<float> dx(x);
  const DeviceArray<std::uint16_t> to_f16(x.size()), to_bf16(x.size());
  const DeviceArray<std::uint32_t> f16x2(x.size()), bf16x2(x.size());
  narrow(dx.data(), to_f16.data(), to_bf16.data(), f16x2.data(), bf16x2.data(), static_cast<int>(x.size()));
  const auto h = to_f16.get(), b = to_bf16.get();
  const auto h2 = f16x2.get(), b2 = bf16x2.get();
  for (std::size_t i = 0; i < x.size(); i++) {
    CAPTURE(x[i]);
    const std::size_t j = x.size() - 1 - i;
    REQUIRE(h[i] == nearest_half(static_cast<long double>(x[i]), std::signbit(x[i])));
    const std::uint32_t bits = float_bits(x[i]), rest = bits & 0xffff, kept = bits >> 16;
    REQUIRE(b[i] == kept + (rest > 0x8000 || (rest == 0x8000 && kept % 2)));
    REQUIRE(h2[i] == (static_cast<std::uint32_t>(h[j]) << 16 | h[i]));
    REQUIRE(b2[i] == (static_cast<std::uint32_t>(b[j]) << 16 | b[i]));
  }
}

TEST_CASE("arithmetic on pairs of halves") {
  CRIA_SEEDED_RNG(rng);
  const std::size_t n = 4000;
  Words a(n), b(n), c(n);
  for (std::size_t i = 0; i < n; i++)
    for (Words* w : {&a, &b, &c})
      (*w)[i] = static_cast<std::uint32_t>(random_half(rng)) << 16 | random_half(rng);
  const DeviceArray<std::uint32_t> da(a), db(b), dc(c), out(4 * n);
  pair_arithmetic(da.data(), db.data(), dc.data(), out.data(), static_cast<int>(n));
  const Words got = out.get();
  for (std::size_t i = 0; i < n; i++)
    for (int shift = 0; shift < 32; shift += 16) {
      const auto half = [&](const Words& w) {
        return static_cast<long double>(f16_to_f32(static_cast<std::uint16_t>(w[i] >> shift)));
      };
      const long double x = half(a), y = half(b), z = half(c);
      const auto result = [&](std::size_t k) { return static_cast<std::uint16_t>(got[k * n + i] >> shift); };
      REQUIRE(result(0) == nearest_half(x * y + z, false));
      REQUIRE(result(1) == nearest_half(x + y, false));
      REQUIRE(result(2) == nearest_half(x - y, false));
      REQUIRE(result(3) == nearest_half(x * y, false));
    }
}

TEST_CASE("integer instructions") {
  CRIA_SEEDED_RNG(rng);
  const std::size_t n = 1000;
  Words a = random_words(rng, n), b = random_words(rng, n), c = random_words(rng, n);
  for (std::size_t i = 0; i < 32; i++) a[i] = 0xffffffffu >> i;
  a[32] = 0;
  const DeviceArray<std::uint32_t> da(a), db(b), dc(c), out(7 * n);
  integer_arithmetic(da.data(), db.data(), dc.data(), out.data(), static_cast<int>(n));
  const Words got = out.get();
  for (std::size_t i = 0; i < n; i++) {
    std::int64_t as_signed = static_cast<std::int32_t>(c[i]), as_unsigned = as_signed;
    std::uint32_t permuted = 0;
    for (int k = 0; k < 4; k++) {
      as_signed += static_cast<std::int8_t>(a[i] >> 8 * k) * static_cast<std::int8_t>(b[i] >> 8 * k);
      as_unsigned += static_cast<std::uint8_t>(a[i] >> 8 * k) * static_cast<std::int8_t>(b[i] >> 8 * k);
      const std::uint32_t which = c[i] >> 4 * k & 7;
      permuted |= ((which < 4 ? a[i] >> 8 * which : b[i] >> 8 * (which - 4)) & 0xff) << 8 * k;
    }
    REQUIRE(got[i] == static_cast<std::uint32_t>(as_signed));
    REQUIRE(got[n + i] == static_cast<std::uint32_t>(as_unsigned));
    REQUIRE(got[2 * n + i] == ((a[i] & b[i]) | c[i]));
    REQUIRE(got[3 * n + i] == ((a[i] & b[i]) ^ c[i]));
    REQUIRE(got[4 * n + i] == permuted);
    REQUIRE(got[5 * n + i] == static_cast<std::uint32_t>(std::popcount(a[i])));
    REQUIRE(got[6 * n + i] == static_cast<std::uint32_t>(std::countl_zero(a[i])));
  }
}

TEST_CASE("approximations") {
  CRIA_SEEDED_RNG(rng);
  std::vector<float> x = random_floats(rng, 3000, 30.0f);
  for (float& value : x) value = std::min(value, 120.0f);  // beyond, 2^x overflows float32
  x[0] = 0.0f, x[1] = -200.0f, x[2] = 1.0f;
  const DeviceArray<float> dx(x), out(2 * x.size());
  approximations(dx.data(), out.data(), static_cast<int>(x.size()));
  const std::vector<float> got = out.get();
  for (std::size_t i = 0; i < x.size(); i++) {
    CAPTURE(x[i]);
    const double power = std::exp2(static_cast<double>(x[i]));
    REQUIRE(std::fabs(got[i] - power) <= 3e-7 * power + 1.2e-38);
    if (x[i] != 0) REQUIRE(std::fabs(got[x.size() + i] * static_cast<double>(x[i]) - 1.0) <= 3e-7);
  }
}

TEST_CASE("collectives of a warp") {
  CRIA_SEEDED_RNG(rng);
  const Words x = random_words(rng, 32);
  const DeviceArray<std::uint32_t> dx(x), out(kWarpCollectives * 32);
  warp_collectives(dx.data(), out.data());
  const Words got = out.get();
  std::uint32_t odd = 0, sum = 0;
  bool all = true;
  for (std::size_t i = 0; i < 32; i++) odd |= (x[i] & 1) << i, sum += x[i], all = all && x[i] == x[0];
  for (std::size_t lane = 0; lane < 32; lane++) {
    CAPTURE(lane);
    const auto result = [&](std::size_t i) { return got[i * 32 + lane]; };
    CHECK(result(0) == x[(lane * 7 + 3) % 32]);
    CHECK(result(1) == x[lane ^ 5]);
    CHECK(result(2) == x[lane < 3 ? lane : lane - 3]);
    CHECK(result(3) == x[lane + 9 > 31 ? lane : lane + 9]);
    CHECK(result(4) == x[lane / 8 * 8 + 3]);
    CHECK(result(5) == x[lane % 16 + 2 > 15 ? lane : lane + 2]);
    CHECK(result(6) == odd);
    CHECK(result(7) == 1);
    CHECK(result(8) == static_cast<std::uint32_t>(all));
    std::uint32_t same = 0;
    for (std::size_t i = 0; i < 32; i++)
      if (i / 16 == lane / 16 && x[i] % 4 == x[lane] % 4) same |= 1u << i;
    CHECK(result(9) == same);
    CHECK(result(10) == 0xffffffffu);
    CHECK(result(11) == sum);
    CHECK(result(12) == *std::max_element(x.begin(), x.end()));
    CHECK(result(13) == *std::min_element(x.begin(), x.end()));
  }
}

TEST_CASE("asynchronous copies") {
  CRIA_SEEDED_RNG(rng);
  for (const int n : {1, 63, 64, 65, 500, 1024}) {
    CAPTURE(n);
    const auto count = static_cast<std::size_t>(n);
    const Words x = random_words(rng, 4 * count);
    std::vector<int> valid(count);
    for (int& v : valid) v = rng() % 4 != 0;
    Words expected = x;
    for (std::size_t i = 0; i < 4 * count; i++)
      if (!valid[i / 4]) expected[i] = 0;
    const DeviceArray<std::uint32_t> from(x);
    const DeviceArray<int> dvalid(valid);
    for (const int bytes : {4, 8, 16}) {
      CAPTURE(bytes);
      const DeviceArray<std::uint32_t> to(4 * count);
      copy_cp_async(bytes, from.data(), dvalid.data(), to.data(), n);
      CHECK(to.get() == expected);
    }
    const DeviceArray<std::uint32_t> counted(4 * count), bulk(4 * count);
    if (copy_mbarrier(from.data(), counted.data(), n)) CHECK(counted.get() == x);
    if (copy_bulk(from.data(), bulk.data(), n)) CHECK(bulk.get() == x);
  }
}

TEST_CASE("a bulk copy over what threads wrote") {
  CRIA_SEEDED_RNG(rng);
  const Words x = random_words(rng, 4 * kCopiedOver);
  const DeviceArray<std::uint32_t> from(x), to(x.size());
  if (copy_over(from.data(), to.data())) CHECK(to.get() == x);
}

TEST_CASE("ldmatrix") {
  CRIA_SEEDED_RNG(rng);
  std::vector<std::uint16_t> x(4 * 64);
  for (std::uint16_t& v : x) v = static_cast<std::uint16_t>(rng());
  const DeviceArray<std::uint16_t> dx(x);
  for (const int matrices : {1, 2, 4})
    for (const bool transposed : {false, true}) {
      CAPTURE(matrices);
      CAPTURE(transposed);
      const DeviceArray<std::uint32_t> out(static_cast<std::size_t>(matrices) * 32);
      load_matrices(matrices, transposed, dx.data(), out.data());
      const Words got = out.get();
      for (std::size_t m = 0; m < static_cast<std::size_t>(matrices); m++)
        for (std::size_t lane = 0; lane < 32; lane++)
          for (std::size_t h = 0; h < 2; h++) {
            const std::size_t i = lane / 4, j = 2 * (lane % 4) + h;
            const std::uint16_t value = x[m * 64 + (transposed ? j * 8 + i : i * 8 + j)];
            REQUIRE(static_cast<std::uint16_t>(got[m * 32 + lane] >> 16 * h) == value);
          }
    }
}

/// Random matrices, plain and as the registers that the manual's tables assign to each lane.
struct MmaCase {
  Mma kind;
  std::size_t depth, per_register;
  std::vector<double> a, b, c;
  Words a_registers, b_registers, c_registers;

  /// `extreme`: bytes are all -128.
  MmaCase(std::mt19937_64& rng, Mma which, bool extreme)
      : kind(which),
        depth(is_bytes() ? 32 : 16),
        per_register(is_bytes() ? 4 : 2),
        a(16 * depth),
        b(depth * 8),
        c(16 * 8),
        a_registers(4 * 32),
        b_registers(2 * 32),
        c_registers(4 * 32) {
    const std::size_t bits = 32 / per_register;
    for (std::size_t lane = 0; lane < 32; lane++) {
      const std::size_t g = lane / 4, t = lane % 4;
      for (std::size_t i = 0; i < 4; i++)
        for (std::size_t e = 0; e < per_register; e++) {
          const std::size_t row = i == 1 || i == 3 ? g + 8 : g,
                            column = t * per_register + e + (i >= 2 ? depth / 2 : 0);
          a_registers[i * 32 + lane] |= draw(rng, a[row * depth + column], extreme) << bits * e;
        }
      for (std::size_t i = 0; i < 2; i++)
        for (std::size_t e = 0; e < per_register; e++)
          b_registers[i * 32 + lane] |= draw(rng, b[(t * per_register + e + i * depth / 2) * 8 + g], extreme)
                                        << bits * e;
      for (std::size_t i = 0; i < 4; i++)
        c_registers[i * 32 + lane] = draw_sum(rng, c[(i >= 2 ? g + 8 : g) * 8 + t * 2 + i % 2]);
    }
  }
  bool is_bytes() const { return kind == Mma::s8; }
  /// A factor, and its bits.
  std::uint32_t draw(std::mt19937_64& rng, double& value, bool extreme) {
    if (is_bytes()) {
      const auto v = static_cast<std::int8_t>(extreme ? -128 : static_cast<int>(rng() % 256) - 128);
      value = v;
      return static_cast<std::uint8_t>(v);
    }
    const float x = normal(rng);
    const std::uint16_t v = kind == Mma::f16 ? f32_to_f16(x) : f32_to_bf16(x);
    value = static_cast<double>(kind == Mma::f16 ? f16_to_f32(v) : bf16_to_f32(v));
    return v;
  }
  std::uint32_t draw_sum(std::mt19937_64& rng, double& value) {
    if (is_bytes()) {
      const auto v = static_cast<std::int32_t>(rng() % 200000) - 100000;
      value = v;
      return static_cast<std::uint32_t>(v);
    }
    const float v = normal(rng);
    value = static_cast<double>(v);
    return float_bits(v);
  }

 private:
  std::normal_distribution<float> normal;
};

TEST_CASE("mma") {
  CRIA_SEEDED_RNG(rng);
  for (const Mma kind : {Mma::f16, Mma::bf16, Mma::s8})
    for (int round = 0; round < 20; round++) {
      const MmaCase m(rng, kind, round == 0);
      const DeviceArray<std::uint32_t> a(m.a_registers), b(m.b_registers), c(m.c_registers);
      multiply_fragments(kind, a.data(), b.data(), c.data());
      const Words got = c.get();
      for (std::size_t lane = 0; lane < 32; lane++)
        for (std::size_t i = 0; i < 4; i++) {
          const std::size_t row = (i >= 2 ? 8 : 0) + lane / 4, column = lane % 4 * 2 + i % 2;
          double sum = m.c[row * 8 + column], size = std::fabs(sum);
          for (std::size_t k = 0; k < m.depth; k++) {
            sum += m.a[row * m.depth + k] * m.b[k * 8 + column];
            size += std::fabs(m.a[row * m.depth + k] * m.b[k * 8 + column]);
          }
          if (m.is_bytes())
            REQUIRE(static_cast<double>(static_cast<std::int32_t>(got[i * 32 + lane])) == sum);
          else  // tensor cores truncate bits far below the largest product
            REQUIRE(std::fabs(static_cast<double>(float_from_bits(got[i * 32 + lane])) - sum) <= 1e-6 * size);
        }
    }
}

TEST_CASE("loads of every kind") {
  CRIA_SEEDED_RNG(rng);
  const Words x = random_words(rng, 4 * 333);
  const DeviceArray<std::uint32_t> dx(x), out(x.size());
  load_all_ways(dx.data(), out.data(), 333);
  CHECK(out.get() == x);
}

TEST_CASE("named barriers") {
  CRIA_SEEDED_RNG(rng);
  for (const std::size_t n : {1u, 64u, 65u, 1000u}) {
    CAPTURE(n);
    Words x = random_words(rng, n);
    const DeviceArray<std::uint32_t> dx(x), out(n);
    named_barriers(dx.data(), out.data(), static_cast<int>(n));
    for (std::uint32_t& v : x) v++;
    CHECK(out.get() == x);
  }
}

TEST_CASE("the last block of a grid") {
  CRIA_SEEDED_RNG(rng);
  const Words x = random_words(rng, 10000);
  std::uint32_t expected = 0;
  for (const std::uint32_t v : x) expected += v;
  const DeviceArray<std::uint32_t> dx(x), parts(37), counter(Words{0});
  for (int round = 0; round < 3; round++) {
    const DeviceArray<std::uint32_t> sum(Words{0});
    last_block_sum(dx.data(), parts.data(), counter.data(), sum.data(), static_cast<int>(x.size()), 37);
    CHECK(sum.get()[0] == expected);
    CHECK(counter.get()[0] == 0);
  }
}

TEST_CASE("blocks that wait for each other") {
  const int blocks = 20;
  const DeviceArray<std::uint32_t> token(Words{0}), seen(static_cast<std::size_t>(blocks));
  pass_token(token.data(), seen.data(), blocks);
  const Words got = seen.get();
  std::uint32_t expected = 0;
  for (const std::uint32_t v : got) CHECK(v == (expected = expected * 3 + 1));
}

TEST_CASE("kernels that begin before the one before them has ended") {
  CRIA_SEEDED_RNG(rng);
  const int rounds = 9;
  const Words x = random_words(rng, 5000);
  Words expected(x.rbegin(), x.rend());
  for (std::uint32_t& v : expected) v *= rounds;
  const DeviceArray<std::uint32_t> dx(x), out(Words(x.size(), 0));
  overlapping_kernels(dx.data(), out.data(), static_cast<int>(x.size()), rounds);
  CHECK(out.get() == expected);
}
