// 16-bit floats and block formats: conversions against definitions in double, dequantization against
// published values.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/quantize.h"

using namespace cria;

namespace {

static_assert(f32_to_f16(1.0f) == 0x3c00 && f16_to_f32(0x3c00) == 1.0f && f32_to_bf16(1.0f) == 0x3f80);

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
std::vector<DType> block_weights(bool quantizable) {
  std::vector<DType> types;
  for (const DTypeTraits& traits : kDTypes)
    if (traits.is_weight && traits.block_size > 1 && (!quantizable || has_quantizer(traits.dtype)))
      types.push_back(traits.dtype);
  return types;
}
/// All quantized types, and those that there is a quantizer for.
const std::vector<DType> kBlockWeights = block_weights(false), kQuantizable = block_weights(true);

/// `value` rounded to a binary float of `precision` significant bits and smallest exponent `min_exponent`.
double round_to_format(double value, int precision, int min_exponent, double overflow) {
  if (value == 0 || std::isinf(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  const double quantum = std::ldexp(1.0, exponent - precision + 1);
  const double rounded =
      std::nearbyint(value / quantum) * quantum;  // exact but for the rounding to nearest even
  return std::fabs(rounded) >= overflow ? std::copysign(HUGE_VAL, value) : rounded;
}

bool f16_as_defined(float x) {
  const double expected = round_to_format(x, 11, -14, 65536.0);
  const float found = f16_to_f32(f32_to_f16(x));
  return found == expected && std::signbit(found) == std::signbit(x);
}

bool bf16_as_defined(float x) {
  const double expected = round_to_format(x, 8, -126, std::ldexp(1.0, 128));
  const float found = bf16_to_f32(f32_to_bf16(x));
  return found == expected && std::signbit(found) == std::signbit(x);
}

std::vector<float> gaussian(std::size_t n, unsigned seed, float scale = 1.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng) * scale;
  return x;
}

std::vector<float> there_and_back(DType dtype, const std::vector<float>& x) {
  std::vector<float> storage((row_bytes(dtype, x.size()) + 3) / 4), y(x.size());
  const auto n = static_cast<std::int64_t>(x.size());
  quantize_row(dtype, x.data(), storage.data(), n);
  dequantize_row(dtype, storage.data(), y.data(), n);
  return y;
}

std::string base64_decode(const std::string& text) {
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned buffer = 0;
  int bits = 0;
  for (char c : text) {
    const std::size_t value = alphabet.find(c);
    if (value == std::string::npos) break;
    buffer = buffer << 6 | static_cast<unsigned>(value);
    bits += 6;
    if (bits >= 8) bytes.push_back(static_cast<char>(buffer >> (bits -= 8) & 255));
  }
  return bytes;
}

/// The string value of the first `"key"` at or after `from`; enough of JSON for the reference file.
std::string string_after(const std::string& json, const std::string& key, std::size_t from) {
  const std::size_t at = json.find('"' + key + '"', from);
  REQUIRE(at != std::string::npos);
  const std::size_t open = json.find('"', json.find(':', at));
  return json.substr(open + 1, json.find('"', open + 1) - open - 1);
}

}  // namespace

TEST_CASE("every half is its value and survives the round trip") {
  int wrong = 0;
  for (unsigned h = 0; h < 65536; h++) {
    const float x = f16_to_f32(static_cast<std::uint16_t>(h));
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    const std::uint16_t back = f32_to_f16(x);
    if (exponent == 31 && mantissa != 0) {
      wrong += !std::isnan(x) || !(float_bits(x) & 0x400000) || back != (h | 0x200);
      continue;
    }
    double value = exponent == 31
                       ? HUGE_VAL
                       : std::ldexp(exponent ? 1024 + mantissa : mantissa, std::max(exponent, 1) - 25);
    if (h & 0x8000) value = -value;
    wrong += x != value || std::signbit(x) != std::signbit(value) || back != h;
  }
  CHECK(wrong == 0);
}

TEST_CASE("every bfloat16 is its value and survives the round trip") {
  int wrong = 0;
  for (unsigned h = 0; h < 65536; h++) {
    const float x = bf16_to_f32(static_cast<std::uint16_t>(h));
    const bool nan = (h & 0x7fff) > 0x7f80;
    wrong += f32_to_bf16(x) != (nan ? h | 0x40 : h);
    if (nan) {
      wrong += !std::isnan(x) || !(float_bits(x) & 0x400000);
    } else {
      wrong += float_bits(x) != h << 16;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("rounding to 16 bits is to nearest even") {
  int wrong = 0;
  std::mt19937 rng(1);
  for (int i = 0; i < 2'000'000; i++) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(rng()));
    if (std::isnan(x)) {
      wrong += !std::isnan(f16_to_f32(f32_to_f16(x))) || !std::isnan(bf16_to_f32(f32_to_bf16(x)));
    } else {
      wrong += !f16_as_defined(x) || !bf16_as_defined(x);
    }
  }
  // In the range of halves, and exactly on, just below and just above every midpoint.
  for (int i = 0; i < 1'000'000; i++)
    wrong += !f16_as_defined(
        std::ldexp(static_cast<float>(static_cast<std::int32_t>(rng())), -(int(rng() % 45)) - 12));
  for (unsigned h = 0; h < 0x7c00; h++) {
    const double upper = h == 0x7bff ? 65536.0 : f16_to_f32(static_cast<std::uint16_t>(h + 1));
    const auto middle = static_cast<float>((f16_to_f32(static_cast<std::uint16_t>(h)) + upper) / 2);
    for (float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)})
      wrong += !f16_as_defined(x) || !f16_as_defined(-x);
  }
  for (unsigned h = 0; h < 0x7f80; h++)
    for (unsigned low : {0x7fffu, 0x8000u, 0x8001u})
      wrong += !bf16_as_defined(std::bit_cast<float>(h << 16 | low));
  CHECK(wrong == 0);
}

TEST_CASE("visit_dtype finds the block struct of each type, with the sizes that the type states") {
  for (const DTypeTraits& traits : kDTypes) {
    CAPTURE(traits.name);
    visit_dtype(traits.dtype, [&](auto format) {
      using Block = typename decltype(format)::Block;
      CHECK(Block::kType == traits.dtype);
      CHECK(Block::kElements == static_cast<int>(traits.block_size));
      CHECK(sizeof(Block) == traits.block_bytes);
    });
  }
}

TEST_CASE("dequantization equals the published values bit for bit") {
  std::string json;
  for (const char* name : {"dequantize.json", "dequantize-more.json"}) {
    std::ifstream file(CRIA_SHARED_DATA "/quantized/" + std::string(name));
    if (!file) {
      MESSAGE("no reference data here: skipped");
      return;
    }
    json.append(std::istreambuf_iterator<char>(file), {});
  }
  std::vector<DType> types(std::begin(kBlockWeights), std::end(kBlockWeights));
  types.insert(types.end(), {DType::f16, DType::bf16});
  for (DType dtype : types) {
    const std::string name(name_of(dtype));
    CAPTURE(name);
    const std::size_t at = json.find('"' + name + '"');
    REQUIRE(at != std::string::npos);
    const std::string blocks = base64_decode(string_after(json, "blocks", at));
    const std::string values = base64_decode(string_after(json, "values", at));
    const std::size_t n = values.size() / sizeof(float);
    REQUIRE(n > 0);
    REQUIRE(blocks.size() == row_bytes(dtype, n));
    std::vector<float> storage(blocks.size() / 4 + 1), expected(n), found(n);
    std::memcpy(storage.data(), blocks.data(), blocks.size());
    std::memcpy(expected.data(), values.data(), values.size());
    dequantize_row(dtype, storage.data(), found.data(), static_cast<std::int64_t>(n));
    int wrong = 0;
    for (std::size_t i = 0; i < n; i++)
      wrong += float_bits(found[i]) != float_bits(expected[i]) &&
               !(std::isnan(found[i]) && std::isnan(expected[i]));
    CHECK(wrong == 0);
  }
}

// The float32 operations of quantize.h computed in double: products and quotients of floats round once more
// without a difference, as 53 >= 2 * 24 + 2.
TEST_CASE("Q8_0 and Q8_1 are what their definition says") {
  for (unsigned seed = 0; seed < 400; seed++) {
    auto x = gaussian(32, seed, seed % 7 == 0 ? 1.0f : std::ldexp(1.0f, static_cast<int>(seed % 80) - 40));
    if (seed % 7 == 0) {  // d is 1: values at halves
      for (float& v : x) v = std::fmod(std::trunc(v * 60), 254.0f) / 2;
      x[seed % 32] = -127.0f;
    }
    if (seed % 50 == 0) std::fill(x.begin(), x.end(), 0.0f);
    double amax = 0;
    for (float v : x) amax = std::max(amax, std::fabs(double{v}));
    const auto d = static_cast<float>(amax / 127);
    const float inverse = d == 0 ? 0 : static_cast<float>(1.0 / d);
    BlockQ8_0 plain;
    BlockQ8_1 summed;
    quantize_row(DType::q8_0, x.data(), &plain, 32);
    quantize_row(DType::q8_1, x.data(), &summed, 32);
    int sum = 0, wrong = 0;
    for (std::size_t j = 0; j < 32; j++) {
      const double v = static_cast<float>(double{x[j]} * inverse);
      const double q = std::copysign(std::floor(std::fabs(v) + 0.5), v);
      wrong += plain.qs[j] != q || summed.qs[j] != q;
      sum += static_cast<int>(q);
    }
    CHECK(wrong == 0);
    CHECK(plain.d == f32_to_f16(d));
    CHECK(summed.d == f32_to_f16(d));
    CHECK(summed.s == f32_to_f16(static_cast<float>(double{d} * sum)));
  }
}

TEST_CASE("Q8_K is what its definition says") {
  for (unsigned seed = 0; seed < 200; seed++) {
    auto x = gaussian(256, seed, std::ldexp(1.0f, static_cast<int>(seed % 100) - 50));
    if (seed % 3 == 0) {
      for (float& v : x) v = std::fmod(std::trunc(v * 60), 254.0f) / 2;
      x[seed % 256] = seed % 2 ? 127.0f : -127.0f;  // values at halves, the extreme with both signs
      x[(seed + 9) % 256] = -x[seed % 256];
    }
    float extreme = 0;
    for (float v : x)
      if (std::fabs(v) > std::fabs(extreme)) extreme = v;
    const auto inverse = static_cast<float>(-127.0 / extreme);
    BlockQ8_K b;
    quantize_row(DType::q8_k, x.data(), &b, 256);
    int wrong = 0, sums[16] = {};
    for (std::size_t j = 0; j < 256; j++) {
      const double v = static_cast<float>(double{inverse} * x[j]);
      wrong += b.qs[j] != std::min(127.0, std::nearbyint(v));
      sums[j / 16] += b.qs[j];
    }
    for (int g = 0; g < 16; g++) wrong += b.bsums[g] != sums[g];
    CHECK(wrong == 0);
    CHECK(b.d == static_cast<float>(1.0 / inverse));
  }
  BlockQ8_K zero;
  std::memset(&zero, 0x55, sizeof zero);
  const std::vector<float> zeros(256, -0.0f);
  quantize_row(DType::q8_k, zeros.data(), &zero, 256);
  const BlockQ8_K expected = {};
  CHECK(std::memcmp(&zero, &expected, sizeof zero) == 0);
}

TEST_CASE("values too small to scale become zero, infinities and NaN stay visible") {
  std::vector<DType> types(std::begin(kQuantizable), std::end(kQuantizable));
  types.insert(types.end(), {DType::q8_1, DType::q8_k});
  for (DType dtype : types) {
    const std::string name(name_of(dtype));
    CAPTURE(name);
    for (float tiny : {0x1p-149f, 0x1p-128f, 0x1p-126f})
      for (float v : there_and_back(dtype, std::vector<float>(512, tiny))) REQUIRE(std::fabs(v) <= 0x1p-24f);
    for (float bad : {kNan, kInf, -kInf}) {
      auto x = gaussian(512, 3);
      x[300] = bad;
      const auto y = there_and_back(dtype, x);
      REQUIRE(std::isnan(y[300]));
      REQUIRE(std::isfinite(y[0]));
    }
    const auto huge = there_and_back(dtype, gaussian(512, 4, 1e38f));
    for (float v : huge) REQUIRE((std::isfinite(v) || dtype == DType::q8_0 || dtype == DType::q8_1));
  }
}

TEST_CASE("quantization error is within each format's bound") {
  struct Bound {
    DType dtype;
    double worst;  // of the block's largest magnitude, by the format's step: see the comments in quantize.cc
    double rms;    // of a normal row's
  };
  const Bound bounds[] = {
      {DType::q4_0, 0.1255, 0.10},   {DType::q4_1, 0.0684, 0.09},   {DType::q5_0, 0.0630, 0.05},
      {DType::q5_1, 0.0340, 0.045},  {DType::q8_0, 0.00444, 0.007}, {DType::q2_k, 0.3700, 0.37},
      {DType::q3_k, 0.2590, 0.19},   {DType::q4_k, 0.0690, 0.09},   {DType::q5_k, 0.0335, 0.045},
      {DType::q6_k, 0.0317, 0.024},  {DType::q8_k, 0.00394, 0.008}, {DType::iq4_nl, 0.1115, 0.09},
      {DType::iq4_xs, 0.1145, 0.09}, {DType::q8_1, 0.00444, 0.007},
  };
  for (const Bound& bound : bounds) {
    const std::string name(name_of(bound.dtype));
    CAPTURE(name);
    const std::size_t block = traits_of(bound.dtype).block_size;
    double squares = 0, errors = 0;
    for (unsigned seed = 0; seed < 240; seed++) {
      auto x = gaussian(1024, seed, std::ldexp(1.0f, static_cast<int>(seed % 20) - 14));
      if (seed % 8 == 1)
        for (float& v : x) v = std::fabs(v) + 1;  // all of one sign
      if (seed % 8 == 2)
        for (float& v : x) v = -std::fabs(v);
      if (seed % 8 == 3) std::fill(x.begin(), x.end(), x[0]);
      if (seed % 8 == 4) x[seed] *= 1000;
      if (seed % 8 == 5)
        for (std::size_t i = 0; i < x.size(); i += 3) x[i] = 0;
      if (seed % 8 == 6)
        for (std::size_t i = 0; i < x.size(); i++) x[i] *= static_cast<float>(i % 16);
      const auto y = there_and_back(bound.dtype, x);
      for (std::size_t first = 0; first < x.size(); first += block) {
        double max = 0, worst = 0;
        for (std::size_t i = first; i < first + block; i++) {
          max = std::max(max, std::fabs(double{x[i]}));
          worst = std::max(worst, std::fabs(double{x[i]} - y[i]));
        }
        REQUIRE(worst <= bound.worst * max + 128 * 0x1p-24);
      }
      if (seed % 8 != 0 || seed % 20 < 10) continue;  // rows large against the smallest half
      for (std::size_t i = 0; i < x.size(); i++) {
        squares += double{x[i]} * x[i];
        errors += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
      }
    }
    const double rms = std::sqrt(errors / squares);
    CAPTURE(rms);
    CHECK(rms < bound.rms);
  }
}

TEST_CASE("a zero row stays zero and whole levels are exact") {
  for (DType dtype : kQuantizable) {
    const std::string name(name_of(dtype));
    CAPTURE(name);
    for (float v : there_and_back(dtype, std::vector<float>(256, 0.0f))) REQUIRE(v == 0.0f);
  }
  std::vector<float> levels(32);
  for (std::size_t i = 0; i < 32; i++) levels[i] = static_cast<float>(i % 16) - 8;
  CHECK(there_and_back(DType::q4_0, levels) == levels);
  CHECK(there_and_back(DType::q4_1, levels) == levels);
  for (std::size_t i = 0; i < 32; i++) levels[i] = static_cast<float>(i) - 16;
  CHECK(there_and_back(DType::q5_0, levels) == levels);
  CHECK(there_and_back(DType::q5_1, levels) == levels);
  for (std::size_t i = 0; i < 32; i++) levels[i] = kIq4Values[i % 16];
  CHECK(there_and_back(DType::iq4_nl, levels) == levels);
}

TEST_CASE("packed scales reach every group") {
  // A row whose groups differ widely in size: a scale stored in another group's place would give a large
  // error.
  for (DType dtype : kQuantizable) {
    const std::string name(name_of(dtype));
    const DTypeTraits& traits = traits_of(dtype);
    if (traits.block_size != 256) continue;
    CAPTURE(name);
    const bool coarse = dtype == DType::q2_k || dtype == DType::q3_k;
    for (std::size_t group = 0; group < 8; group++) {
      std::vector<float> x(256);
      for (std::size_t i = 0; i < 256; i++)
        x[i] = static_cast<float>(i % 2 ? -1 : 1) *
               (i / 32 == group ? 1.0f : 0.3f + 0.05f * static_cast<float>(i / 32));
      const auto y = there_and_back(dtype, x);
      for (std::size_t i = 0; i < 256; i++)
        REQUIRE(std::fabs(x[i] - y[i]) < (coarse ? 0.3f : 0.14f) * std::fabs(x[i]));
    }
  }
}

TEST_CASE("16-bit and float32 rows are converted element by element") {
  const auto x = gaussian(1001, 5);
  CHECK(there_and_back(DType::f32, x) == x);
  const auto half = there_and_back(DType::f16, x), brain = there_and_back(DType::bf16, x);
  for (std::size_t i = 0; i < x.size(); i++) {
    REQUIRE(half[i] == f16_to_f32(f32_to_f16(x[i])));
    REQUIRE(brain[i] == bf16_to_f32(f32_to_bf16(x[i])));
  }
}

TEST_CASE("activation types follow the weights'") {
  CHECK(activation_dtype(DType::f32) == DType::f32);
  CHECK(activation_dtype(DType::f16) == DType::f16);
  CHECK(activation_dtype(DType::bf16) == DType::bf16);
  for (DType w : {DType::q4_0, DType::q5_0, DType::q8_0, DType::iq4_nl, DType::mxfp4, DType::nvfp4,
                  DType::q1_0, DType::q2_0})
    CHECK(activation_dtype(w) == DType::q8_0);
  for (DType w : {DType::q4_1, DType::q5_1}) CHECK(activation_dtype(w) == DType::q8_1);
  for (DType w : {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs,
                  DType::iq1_s, DType::iq1_m, DType::iq2_xxs, DType::iq2_xs, DType::iq2_s, DType::iq3_xxs,
                  DType::iq3_s, DType::tq1_0, DType::tq2_0})
    CHECK(activation_dtype(w) == DType::q8_k);
  CHECK_THROWS_AS(activation_dtype(DType::q8_k), Error);
}

TEST_CASE("rows that are no multiple of the block are refused") {
  std::vector<float> x(256), y(256);
  for (DType dtype : kBlockWeights) {
    CHECK_THROWS_AS(quantize_row(dtype, x.data(), y.data(), 31), Error);
    CHECK_THROWS_AS(dequantize_row(dtype, y.data(), x.data(), traits_of(dtype).block_size + 1), Error);
    CHECK_THROWS_AS(quantize_row(dtype, x.data(), y.data(), -256), Error);
    if (has_quantizer(dtype))
      quantize_row(dtype, x.data(), y.data(), 0);
    else
      CHECK_THROWS_WITH_AS(quantize_row(dtype, x.data(), y.data(), 256),
                           doctest::Contains("there is no quantizer for"), Error);
    dequantize_row(dtype, y.data(), x.data(), 0);
  }
}
