// The quantizers: their error against llama.cpp's on the same matrices, and what no search may break.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../io/expect_error.h"
#include "convert/importance_matrix.h"
#include "core/json.h"
#include "io/gguf.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/weight_quantizer.h"

using namespace cria;
using namespace cria::test;

namespace {

const std::string kData = CRIA_SHARED_DATA "/quantized/";

std::vector<DType> searched_types() {
  std::vector<DType> types;
  for (const DTypeTraits& t : kDTypes)
    if (t.is_weight && t.block_size > 1 && can_quantize(t.dtype)) types.push_back(t.dtype);
  return types;
}

std::vector<float> there_and_back(DType dtype, const std::vector<float>& x,
                                  const float* importance = nullptr) {
  std::vector<std::uint32_t> blocks((row_bytes(dtype, x.size()) + 3) / 4);
  std::vector<float> y(x.size());
  const auto n = static_cast<std::int64_t>(x.size());
  quantize_weights(dtype, x.data(), importance, blocks.data(), n);
  dequantize_row(dtype, blocks.data(), y.data(), n);
  return y;
}

std::vector<float> gaussian(std::size_t n, unsigned seed, float scale) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng) * scale;
  return x;
}

double relative_error(const std::vector<float>& found, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < wanted.size(); i++) {
    error += std::pow(found[i] - wanted[i], 2.0);
    norm += std::pow(wanted[i], 2.0);
  }
  return std::sqrt(error / norm);
}

struct Matrix {
  std::vector<float> values, importance;
  std::size_t cols;
};

std::vector<Matrix> layer_matrices() {
  const GgufFile file = GgufFile::open(kData + "tiny-F32.gguf");
  const ImportanceMatrix importance = ImportanceMatrix::read(kData + "tiny-imatrix.gguf");
  std::vector<Matrix> matrices;
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.starts_with("blk.") || tensor.n_dims != 2) continue;
    Matrix m{.values = std::vector<float>(tensor.elements()),
             .importance = importance.entries.at(tensor.name).means(0),
             .cols = static_cast<std::size_t>(tensor.dims[0])};
    file.read(tensor, 0, m.values.data(), tensor.bytes);
    matrices.push_back(std::move(m));
  }
  return matrices;
}

/// Relative error over all matrices.
double error_of(DType dtype, const std::vector<Matrix>& matrices, bool with_importance) {
  std::vector<float> found, wanted;
  for (const Matrix& m : matrices) {
    for (std::size_t row = 0; row < m.values.size(); row += m.cols) {
      const std::vector<float> x(m.values.begin() + static_cast<std::ptrdiff_t>(row),
                                 m.values.begin() + static_cast<std::ptrdiff_t>(row + m.cols));
      const std::vector<float> y = there_and_back(dtype, x, with_importance ? m.importance.data() : nullptr);
      found.insert(found.end(), y.begin(), y.end());
    }
    wanted.insert(wanted.end(), m.values.begin(), m.values.end());
  }
  return relative_error(found, wanted);
}

}  // namespace

TEST_CASE("no quantizer's error is above llama.cpp's" *
          doctest::skip(!std::filesystem::exists(CRIA_SHARED_DATA "/quantized/quantizer-error.json"))) {
  std::ifstream file(kData + "quantizer-error.json");
  const JsonDocument document =
      JsonDocument::parse({std::istreambuf_iterator<char>(file), {}}, "quantizer-error.json");
  const std::vector<Matrix> matrices = layer_matrices();
  REQUIRE(matrices.size() == 14);
  int checked = 0;
  for (const JsonMember type : document.root().get("types").members()) {
    for (const DTypeTraits& traits : kDTypes) {
      if (traits.name != type.key || !can_quantize(traits.dtype)) continue;
      CAPTURE(std::string(type.key));
      // The reference is rounded to six digits.
      if (const auto plain = type.value.find("plain"))
        CHECK(error_of(traits.dtype, matrices, false) <= plain->as_number() + 5e-7);
      if (const auto weighted = type.value.find("with importance matrix"))
        CHECK(error_of(traits.dtype, matrices, true) <= weighted->as_number() + 5e-7);
      checked++;
    }
  }
  CHECK(checked >= 12);
}

TEST_CASE("every level finds the same bits") {
  const std::vector<float> x = gaussian(1024, 3, 0.02f);
  std::vector<float> importance(1024);
  for (std::size_t i = 0; i < importance.size(); i++) importance[i] = static_cast<float>(1 + i % 7);
  for (const DType dtype : searched_types()) {
    if (dtype == DType::q8_0) continue;
    CAPTURE(name_of(dtype));
    std::vector<std::vector<std::uint32_t>> results;
    for (const CpuKernels* level : runnable_levels()) {
      std::vector<std::uint32_t> blocks((row_bytes(dtype, x.size()) + 3) / 4);
      REQUIRE(level->quantize_weights(dtype, x.data(), importance.data(), blocks.data(), 1024));
      results.push_back(std::move(blocks));
    }
    for (const auto& found : results) CHECK(found == results.front());
  }
}

TEST_CASE("importance moves the error to other columns") {
  const std::vector<float> x = gaussian(4096, 5, 1.0f);
  std::vector<float> importance(x.size(), 0.01f);
  for (std::size_t i = 0; i < x.size(); i += 8) importance[i] = 10.0f;
  const auto error_of_important = [&](const std::vector<float>& y) {
    double error = 0;
    for (std::size_t i = 0; i < x.size(); i += 8) error += std::pow(y[i] - x[i], 2.0);
    return error;
  };
  for (const DType dtype : searched_types()) {
    if (dtype == DType::q8_0) continue;
    CAPTURE(name_of(dtype));
    CHECK(error_of_important(there_and_back(dtype, x, importance.data())) <=
          error_of_important(there_and_back(dtype, x)));
  }
}

TEST_CASE("importance that is zero, equal or tiny") {
  const std::vector<float> x = gaussian(256, 6, 1.0f);
  for (const DType dtype : searched_types()) {
    CAPTURE(name_of(dtype));
    const std::vector<float> plain = there_and_back(dtype, x);
    for (const float value : {0.0f, 1.0f, 1e-38f}) {
      const std::vector<float> importance(256, value);
      CHECK(relative_error(there_and_back(dtype, x, importance.data()), x) ==
            doctest::Approx(relative_error(plain, x)).epsilon(0.01));
    }
  }
}

TEST_CASE("zeros, constants, single values and every magnitude") {
  for (const DType dtype : searched_types()) {
    CAPTURE(name_of(dtype));
    CHECK(there_and_back(dtype, std::vector<float>(256, 0.0f)) == std::vector<float>(256, 0.0f));
    std::vector<float> single(256, 0.0f);
    single[77] = -0.5f;
    for (const float y : there_and_back(dtype, single)) CHECK(std::abs(y) <= 0.55f);
    // A scale is a half: 6e-8 to 65504, of which the largest value is up to 127 times.
    for (const float magnitude : {1e-6f, 1e-3f, 1.0f, 1e3f, 60000.0f}) {
      CAPTURE(magnitude);
      const std::vector<float> x = gaussian(256, 9, magnitude / 4);
      const std::vector<float> y = there_and_back(dtype, x);
      for (const float v : y) CHECK(std::isfinite(v));
      if (magnitude >= 1e-3f) CHECK(relative_error(y, x) < 1.0);
    }
    if (dtype == DType::q8_0) continue;  // whose scale may become infinite (quantize.h)
    for (const float extreme : {3.4e38f, 1e-45f}) {
      std::vector<float> x(256, 0.0f);
      for (std::size_t i = 0; i < x.size(); i += 3) x[i] = i % 2 == 0 ? extreme : -extreme;
      for (const float v : there_and_back(dtype, x)) CHECK(std::isfinite(v));
    }
  }
}

TEST_CASE("wrong calls") {
  float x[32] = {}, out[32];
  expect_error(ErrorCode::invalid_argument, "multiple of 256",
               [&] { quantize_weights(DType::q4_k, x, nullptr, out, 32); });
  expect_error(ErrorCode::invalid_argument, "no quantizer writes Q8_K",
               [&] { quantize_weights(DType::q8_k, x, nullptr, out, 0); });
}
