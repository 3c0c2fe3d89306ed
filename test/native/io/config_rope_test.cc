// Inverse frequencies and the factor of cosine and sine: every scaling, and what contradicts itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "expect_error.h"
#include "gguf_builder.h"
#include "model/config.h"

using namespace cria;
using namespace cria::test;

namespace {

constexpr LlamaShape kShape = {.hidden = 64, .heads = 1, .kv_heads = 1, .head_dim = 64};

ModelConfig config_of(const GgufBuilder& b) { return read_config(open_bytes(b.build())); }

float unscaled(double base, std::size_t i, double dim) {
  return static_cast<float>(1.0 / std::pow(base, 2.0 * static_cast<double>(i) / dim));
}

/// The published formula of Llama 3.1 for 128 dimensions at base 500,000, in float64.
std::vector<double> llama3_factors(std::size_t dim, double base) {
  std::vector<double> factors;
  for (std::size_t i = 0; i < dim / 2; ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(base, 2.0 * static_cast<double>(i) / static_cast<double>(dim));
    if (wavelength < 8192.0 / 4) {
      factors.push_back(1);
    } else if (wavelength > 8192.0) {
      factors.push_back(8);
    } else {
      const double smooth = (8192.0 / wavelength - 1) / (4 - 1);
      factors.push_back(1 / ((1 - smooth) / 8 + smooth));
    }
  }
  return factors;
}

GgufBuilder llama3_metadata(GgufBuilder b) {
  b.set("llama.rope.freq_base", 500000.0f).set("llama.rope.scaling.type", "llama3");
  b.set("llama.rope.scaling.factor", 8.0f).set("llama.rope.scaling.low_freq_factor", 1.0f);
  b.set("llama.rope.scaling.high_freq_factor", 4.0f).set("llama.rope.scaling.original_context_length", 8192u);
  return b;
}

}  // namespace

TEST_CASE("bases") {
  for (const float base : {10000.0f, 500000.0f, 1000000.0f}) {
    GgufBuilder b = tiny_llama(kShape);
    b.set("llama.rope.freq_base", base);
    const ModelConfig config = config_of(b);
    CHECK(config.rope_base == base);
    REQUIRE(config.rope_inv_freq.size() == 32);
    for (std::size_t i = 0; i < 32; ++i) CHECK(config.rope_inv_freq[i] == unscaled(base, i, 64));
  }
}

TEST_CASE("RoPE may rotate a part of each head") {
  GgufBuilder b = tiny_llama(kShape);
  b.set("llama.rope.dimension_count", 16u);
  const ModelConfig config = config_of(b);
  CHECK(config.rope_dim == 16);
  REQUIRE(config.rope_inv_freq.size() == 8);
  CHECK(config.rope_inv_freq[1] == unscaled(10000, 1, 16));
}

TEST_CASE("linear scaling, in the new and the old spelling") {
  GgufBuilder b = tiny_llama(kShape);
  b.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 4.0f);
  const ModelConfig config = config_of(b);
  CHECK(config.rope_scaling == "linear");
  CHECK(config.rope_inv_freq[0] == 0.25f);
  CHECK(config.rope_inv_freq[5] == doctest::Approx(unscaled(10000, 5, 64) / 4).epsilon(1e-7));
  GgufBuilder old = tiny_llama(kShape);
  old.set("llama.rope.scale_linear", 4.0f);
  CHECK(config_of(old).rope_inv_freq == config.rope_inv_freq);
  old.set("llama.rope.scaling.type", "none");
  CHECK(config_of(old).rope_inv_freq[0] == 1);
  GgufBuilder unnamed = tiny_llama(kShape);
  unnamed.set("llama.rope.scaling.factor", 4.0f);
  CHECK(config_of(unnamed).rope_inv_freq == config.rope_inv_freq);
  CHECK(config_of(unnamed).rope_scaling == "linear");
  unnamed.set("llama.rope.scale_linear", 8.0f);  // the new spelling goes first
  CHECK(config_of(unnamed).rope_inv_freq == config.rope_inv_freq);
  unnamed.set("llama.rope.scaling.factor", 0.0f);  // not set
  CHECK(config_of(unnamed).rope_inv_freq[0] == 1);
}

TEST_CASE("a factor of cosine and sine, with every scaling") {
  for (const char* type : {"none", "linear", "yarn", "longrope"}) {
    CAPTURE(type);
    GgufBuilder b = tiny_llama(kShape);
    b.set("llama.rope.scaling.type", type).set("llama.rope.scaling.factor", 4.0f);
    b.set("llama.rope.scaling.original_context_length", 16u);
    const double own = config_of(b).rope_magnitude;
    CHECK(own == doctest::Approx(std::string(type) == "yarn" ? 1 + 0.1 * std::log(4.0) : 1.0));
    b.set("llama.rope.scaling.attn_factor", 1.25f);
    CHECK(config_of(b).rope_magnitude == own * 1.25);
  }
}

TEST_CASE("YaRN: the published formula") {
  GgufBuilder b = tiny_llama(kShape);
  b.set("llama.rope.scaling.type", "yarn").set("llama.rope.scaling.factor", 8.0f);
  b.set("llama.context_length", 65536u).set("llama.rope.scaling.original_context_length", 4096u);
  const auto expected = [](double fast, double slow) {
    // The dimensions that make `fast` and `slow` rotations within the original context bound the ramp.
    const auto dimension = [](double rotations) {
      return 64 * std::log(4096 / (rotations * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
    };
    const double low = std::max(0.0, std::floor(dimension(fast))),
                 high = std::min(63.0, std::ceil(dimension(slow)));
    std::vector<double> frequencies;
    for (int i = 0; i < 32; i++) {
      const double frequency = std::pow(10000.0, -2.0 * i / 64);
      const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
      frequencies.push_back(frequency * (1 - ramp) + frequency / 8 * ramp);
    }
    return frequencies;
  };
  const auto check = [&](const std::vector<double>& frequencies) {
    const ModelConfig config = config_of(b);
    for (std::size_t i = 0; i < 32; i++)
      CHECK(config.rope_inv_freq[i] == doctest::Approx(frequencies[i]).epsilon(1e-6));
  };
  check(expected(32, 1));
  CHECK(config_of(b).rope_scaling == "yarn");
  b.set("llama.rope.scaling.beta_fast", 16.0f).set("llama.rope.scaling.beta_slow", 2.0f);
  check(expected(16, 2));
  // llama.cpp does not read these for a Llama.
  b.set("llama.rope.scaling.yarn_beta_fast", 8.0f);
  check(expected(16, 2));
  CHECK(config_of(b).warnings.size() == 1);

  // The original context is the model's own by default.
  b.remove("llama.rope.scaling.original_context_length").set("llama.context_length", 4096u);
  check(expected(16, 2));
  b.tensor({"rope_freqs.weight", {32}, 0, float_bytes(std::vector<float>(32, 2.0f))});
  CHECK(config_of(b).rope_scaling == "yarn+tensor");
  CHECK(config_of(b).rope_inv_freq[0] == doctest::Approx(expected(16, 2)[0] / 2).epsilon(1e-6));
}

TEST_CASE("longrope: the factors follow the context that the model runs with") {
  GgufBuilder b = tiny_llama(kShape);
  b.set("llama.rope.scaling.type", "longrope").set("llama.context_length", 4096u);
  b.set("llama.rope.scaling.original_context_length", 512u);
  b.tensor({"rope_factors_short.weight", {32}, 0, float_bytes(std::vector<float>(32, 2.0f))});
  b.tensor({"rope_factors_long.weight", {32}, 0, float_bytes(std::vector<float>(32, 5.0f))});
  const GgufFile file = open_bytes(b.build());
  CHECK(read_config(file).rope_scaling == "longrope");
  for (const auto& [context, divisor] :
       {std::pair<std::int64_t, float>{0, 5.0f}, {513, 5.0f}, {4096, 5.0f}, {512, 2.0f}, {1, 2.0f}}) {
    CAPTURE(context);
    for (std::size_t i = 0; i < 32; i++)
      CHECK(read_config(file, context).rope_inv_freq[i] ==
            doctest::Approx(unscaled(10000, i, 64) / divisor).epsilon(1e-6));
  }
  // As in llama.cpp a factor divides as well, and what a tensor does not say is 1.
  b.set("llama.rope.scaling.factor", 4.0f);
  CHECK(read_config(open_bytes(b.build()), 100).rope_inv_freq[0] == doctest::Approx(1.0 / 8));
  b.remove_tensor("rope_factors_short.weight");
  CHECK(read_config(open_bytes(b.build()), 100).rope_inv_freq[0] == doctest::Approx(1.0 / 4));
}

TEST_CASE("factors of other float types") {
  GgufBuilder b = tiny_llama(kShape);
  std::vector<std::uint8_t> halves(64);
  for (std::size_t i = 0; i < 32; i++) halves[2 * i + 1] = 0x40;  // 2 as F16 and as BF16
  for (const std::uint32_t type : {1u, 30u}) {
    b.tensor_named("rope_freqs.weight") = {"rope_freqs.weight", {32}, type, halves};
    CHECK(config_of(b).rope_inv_freq[0] == 0.5f);
  }
}

TEST_CASE("Llama 3.1: the metadata form and the tensor form agree with the formula") {
  const std::vector<double> factors = llama3_factors(64, 500000);
  const ModelConfig from_metadata = config_of(llama3_metadata(tiny_llama(kShape)));
  CHECK(from_metadata.rope_scaling == "llama3");
  GgufBuilder b = tiny_llama(kShape);
  b.set("llama.rope.freq_base", 500000.0f);
  b.tensor({"rope_freqs.weight", {32}, 0, float_bytes({factors.begin(), factors.end()})});
  const ModelConfig from_tensor = config_of(b);
  CHECK(from_tensor.rope_scaling == "tensor");
  bool blended = false;
  for (std::size_t i = 0; i < 32; ++i) {
    const double expected = std::pow(500000.0, -2.0 * static_cast<double>(i) / 64) / factors[i];
    CHECK(from_metadata.rope_inv_freq[i] == doctest::Approx(expected).epsilon(1e-6));
    CHECK(from_tensor.rope_inv_freq[i] == doctest::Approx(expected).epsilon(1e-6));
    blended = blended || (factors[i] > 1 && factors[i] < 8);
  }
  CHECK(blended);
  CHECK(factors.front() == 1);
  CHECK(factors.back() == 8);
}

TEST_CASE("scalings that contradict themselves or are not supported") {
  const auto expect = [](ErrorCode code, const std::string& mentions, const GgufBuilder& b) {
    expect_error(code, mentions, [&] { (void)config_of(b); });
  };
  GgufBuilder b = tiny_llama(kShape);
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  SUBCASE("unsupported types") {
    for (const char* type : {"dynamic", "su", "YARN", "", "\x01"}) {
      b.set("llama.rope.scaling.type", type);
      expect(ErrorCode::unsupported_model, "scaling.type", b);
    }
  }
  SUBCASE("bases") {
    for (const float base : {0.0f, -10000.0f, 0.5f, inf, nan}) {
      b.set("llama.rope.freq_base", base);
      expect(ErrorCode::invalid_model, "freq_base", b);
    }
  }
  SUBCASE("linear factors") {
    for (const float factor : {1e-6f, -4.0f, inf, nan}) {
      for (const char* type : {"linear", "yarn", "longrope"}) {
        b.set("llama.rope.scaling.type", type).set("llama.rope.scaling.factor", factor);
        expect(ErrorCode::invalid_model, "scaling.factor", b);
      }
    }
  }
  SUBCASE("factors of cosine and sine") {
    for (const float factor : {0.0f, -1.0f, inf, nan}) {
      b.set("llama.rope.scaling.attn_factor", factor);
      expect(ErrorCode::invalid_model, "scaling.attn_factor", b);
    }
  }
  SUBCASE("YaRN without a usable base, context or bound") {
    b.set("llama.rope.scaling.type", "yarn");
    GgufBuilder other = b;
    expect(ErrorCode::invalid_model, "freq_base", other.set("llama.rope.freq_base", 1.0f));
    for (const char* key : {"original_context_length", "beta_fast", "beta_slow"}) {
      other = b;
      expect(ErrorCode::invalid_model, key, other.set("llama.rope.scaling." + std::string(key), -2.0f));
      expect(ErrorCode::invalid_model, key, other.set("llama.rope.scaling." + std::string(key), nan));
    }
  }
  SUBCASE("tensors of another scaling") {
    for (const auto& [type, tensor] :
         {std::pair{"longrope", "rope_freqs.weight"}, std::pair{"linear", "rope_factors_long.weight"},
          std::pair{"yarn", "rope_factors_short.weight"}, std::pair{"none", "rope_factors_long.weight"}}) {
      GgufBuilder other = b;
      other.set("llama.rope.scaling.type", type).tensor({tensor, {32}});
      expect(ErrorCode::invalid_model, tensor, other);
    }
  }
  SUBCASE("a missing or impossible parameter of Llama 3.1's scaling") {
    for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_context_length"}) {
      const std::string full = "llama.rope.scaling." + std::string(key);
      expect(ErrorCode::invalid_model, full, llama3_metadata(b).remove(full));
      expect(ErrorCode::invalid_model, full, llama3_metadata(b).set(full, nan));
      expect(ErrorCode::invalid_model, full, llama3_metadata(b).set(full, 0.0f));
    }
    expect(ErrorCode::invalid_model, "high_freq_factor",
           llama3_metadata(b).set("llama.rope.scaling.high_freq_factor", 1.0f));
  }
  SUBCASE("both forms of Llama 3.1's scaling at once") {
    b.tensor({"rope_freqs.weight", {32}, 0, float_bytes(std::vector<float>(32, 1.0f))});
    expect(ErrorCode::invalid_model, "no such tensor with the RoPE scaling \"llama3\"", llama3_metadata(b));
  }
  SUBCASE("factor tensors") {
    b.tensor({"rope_freqs.weight", {16}});
    expect(ErrorCode::invalid_model, "32 factors", b);
    b.tensor_named("rope_freqs.weight") = {"rope_freqs.weight", {32}};
    expect(ErrorCode::invalid_model, "finite positive factors", b);
    for (const float bad : {nan, inf, -1.0f}) {
      std::vector<float> factors(32, 1.0f);
      factors[7] = bad;
      b.tensor_named("rope_freqs.weight") = {"rope_freqs.weight", {32}, 0, float_bytes(factors)};
      expect(ErrorCode::invalid_model, "as factor 7", b);
    }
    b.tensor_named("rope_freqs.weight") = {"rope_freqs.weight", {32}, 8};
    expect(ErrorCode::unsupported_model, "expected F32, F16 or BF16, found Q8_0", b);
  }
}
