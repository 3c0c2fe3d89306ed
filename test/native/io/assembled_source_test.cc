#include "io/assembled_source.h"

#include <cmath>
#include <numeric>

#include "core/float_bits.h"
#include "expect_error.h"
#include "folder_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

/// `values` as F32 in the file at `offset`.
StoredTensor stored(std::vector<std::uint64_t> shape, std::uint64_t offset,
                    StoredType type = StoredType::f32) {
  StoredTensor tensor{.name = "t", .type = type, .shape = shape, .offset = offset};
  tensor.bytes = traits_of(type).bits / 8;
  for (const std::uint64_t dim : shape) tensor.bytes *= dim;
  return tensor;
}

std::shared_ptr<const File> file_of(const std::string& bytes) {
  return File::from_memory("memory", {bytes.begin(), bytes.end()});
}

std::vector<float> counting(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

/// One tensor "t".
std::unique_ptr<AssembledSource> source_of(const std::string& bytes, DType dtype,
                                           const std::vector<std::uint64_t>& dims, Assembly assembly) {
  auto source = std::make_unique<AssembledSource>("folder", "test");
  source->set_files({file_of(bytes)});
  source->add_tensor("t", dtype, dims, std::move(assembly));
  source->finish();
  return source;
}

std::vector<std::uint8_t> all_of(const AssembledSource& source) {
  const GgufTensor& tensor = *source.find_tensor("t");
  std::vector<std::uint8_t> bytes(tensor.bytes);
  source.read(tensor, 0, bytes.data(), bytes.size());
  return bytes;
}

std::vector<float> floats_of(const AssembledSource& source) {
  const std::vector<std::uint8_t> bytes = all_of(source);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

TEST_CASE("assembled: RoPE's halves become pairs, in any range of bytes") {
  constexpr std::uint64_t kHeads = 3, kDim = 6, kCols = 5;
  const std::vector<float> values = counting(kHeads * kDim * kCols);
  Assembly assembly{.parts = {stored({kHeads * kDim, kCols}, 0)}, .rope_head_dim = kDim};
  const auto source = source_of(file_bytes(values), DType::f32, {kCols, kHeads * kDim}, assembly);
  const std::vector<float> got = floats_of(*source);
  for (std::uint64_t head = 0; head < kHeads; ++head) {
    for (std::uint64_t i = 0; i < kDim; ++i) {
      for (std::uint64_t c = 0; c < kCols; ++c) {
        const std::uint64_t from = head * kDim + (i % 2) * (kDim / 2) + i / 2;
        CHECK(got[(head * kDim + i) * kCols + c] == values[from * kCols + c]);
      }
    }
  }
  const std::vector<std::uint8_t> whole = all_of(*source);
  const GgufTensor& tensor = *source->find_tensor("t");
  for (std::size_t begin = 0; begin < whole.size(); begin += 7) {
    for (std::size_t size = 0; begin + size <= whole.size(); size += 13) {
      std::vector<std::uint8_t> part(size);
      source->read(tensor, begin, part.data(), size);
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(begin)));
    }
  }
  expect_error(ErrorCode::internal, "beyond", [&] {
    std::uint8_t byte;
    source->read(tensor, tensor.bytes, &byte, 1);
  });
}

TEST_CASE("assembled: large heads are read in pieces") {
  constexpr std::uint64_t kRows = 128, kCols = 3000;  // 1.5 MB a head
  const std::vector<float> values = counting(2 * kRows * kCols);
  Assembly assembly{.parts = {stored({2 * kRows, kCols}, 0)}, .rope_head_dim = kRows};
  const std::vector<float> got =
      floats_of(*source_of(file_bytes(values), DType::f32, {kCols, 2 * kRows}, assembly));
  bool equal = true;
  for (std::uint64_t row = 0; row < 2 * kRows; ++row) {
    const std::uint64_t i = row % kRows, from = row - i + (i % 2) * (kRows / 2) + i / 2;
    equal = equal && std::memcmp(&got[row * kCols], &values[from * kCols], kCols * sizeof(float)) == 0;
  }
  CHECK(equal);
}

TEST_CASE("assembled: a vector of RoPE's halves, widened") {
  std::string bytes;
  for (int i = 0; i < 8; ++i) append(bytes, f32_to_bf16(static_cast<float>(i)));
  Assembly assembly{.parts = {stored({8}, 0, StoredType::bf16)}, .rope_head_dim = 4};
  CHECK(floats_of(*source_of(bytes, DType::f32, {8}, assembly)) ==
        std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7});
}

TEST_CASE("assembled: parts join by rows and by columns") {
  const std::vector<float> values = counting(12);
  Assembly rows{.parts = {stored({2, 3}, 0), stored({2, 3}, 24)}};
  CHECK(floats_of(*source_of(file_bytes(values), DType::f32, {3, 4}, rows)) == values);
  CHECK(floats_of(*source_of(file_bytes(values), DType::f32, {3, 2, 2}, rows)) == values);
  Assembly cols{.parts = rows.parts, .join = Assembly::Join::cols};
  CHECK(floats_of(*source_of(file_bytes(values), DType::f32, {6, 2}, cols)) ==
        std::vector<float>{0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11});
}

TEST_CASE("assembled: every value of FP8 E4M3") {
  for (int bits = 0; bits < 256; ++bits) {
    const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
    const float got = f8_e4m3_to_f32(static_cast<std::uint8_t>(bits));
    if (exponent == 15 && mantissa == 7) {
      CHECK(std::isnan(got));
      continue;
    }
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    CHECK(got == (bits & 128 ? -magnitude : magnitude));
  }
}

TEST_CASE("assembled: FP8 with scales by block") {
  std::string bytes;
  for (int i = 0; i < 3 * 5; ++i) bytes.push_back(static_cast<char>(0x38));  // 1.0
  Assembly assembly{.parts = {stored({3, 5}, 0, StoredType::f8_e4m3)}};
  assembly.scales.push_back({.values = {1, 2, 3, 4, 5, 6}, .block_rows = 2, .block_cols = 2});
  CHECK(floats_of(*source_of(bytes, DType::f32, {5, 3}, assembly)) ==
        std::vector<float>{1, 1, 2, 2, 3, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6});
}

TEST_CASE("assembled: parts that do not make up the tensor are an error") {
  const std::string bytes = file_bytes(counting(12));
  const auto refused = [&](const std::vector<std::uint64_t>& dims, const Assembly& assembly) {
    expect_error(ErrorCode::invalid_model, "expected shape",
                 [&] { (void)source_of(bytes, DType::f32, dims, assembly); });
  };
  refused({3, 5}, {.parts = {stored({4, 3}, 0)}});
  refused({0, 3}, {.parts = {stored({0, 3}, 0)}});
  refused({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, {.parts = {stored({4, 3}, 0)}});
  refused({3, 4}, {.parts = {stored({4, 3}, 0)}, .rope_head_dim = 3});
  refused({3, 4}, {.parts = {stored({4, 3}, 0)}, .rope_head_dim = 8});
  refused({2, 3}, {.parts = {stored({3, 1}, 0), stored({3, 1}, 0)}});
  refused({2, 3}, {.parts = {stored({4, 1}, 0), stored({2, 1}, 0)}});
}

TEST_CASE("assembled: two tensors of one name are an error") {
  AssembledSource source("folder", "test");
  source.add_tensor("t", DType::f32, {1}, {.values = {1}});
  source.add_tensor("t", DType::f32, {1}, {.values = {1}});
  expect_error(ErrorCode::invalid_model, "two tensors", [&] { source.finish(); });
}
