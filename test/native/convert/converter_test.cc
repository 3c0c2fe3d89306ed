// Quantized sources and the files that conversion writes.
#include "convert/converter.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "../io/expect_error.h"
#include "../io/gguf_builder.h"
#include "../io/temp_dir.h"
#include "io/gguf.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/weight_quantizer.h"

using namespace cria;
using namespace cria::test;
namespace fs = std::filesystem;

namespace {

std::vector<std::uint8_t> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Bytes bytes;
  for (std::size_t i = 0; i < n; i++) bytes.put(normal(rng) * 0.05f);
  return bytes.data;
}

/// A model of one layer whose rows have 512 and 96 columns.
GgufBuilder small_model() {
  GgufBuilder gguf;
  gguf.set("general.architecture", "llama");
  gguf.set("llama.block_count", std::uint32_t{1});
  gguf.set("llama.attention.head_count", std::uint32_t{4});
  gguf.set("general.file_type", std::uint32_t{0});
  gguf.set("a.negative", GgufType::i32, std::int32_t{-7});
  gguf.set("a.double", GgufType::f64, 0.1);
  gguf.set("a.flag", true);
  gguf.set("a.byte", GgufType::u8, std::uint8_t{200});
  gguf.set("a.large", GgufType::u64, std::uint64_t{1} << 63);
  gguf.set_strings("a.strings", {"", "one", "two\nlines"});
  gguf.set_numbers("a.numbers", GgufType::i16, std::vector<std::int16_t>{-1, 2, 3});
  gguf.set_strings("a.empty", {});
  gguf.tensor({.name = "token_embd.weight", .dims = {512, 64}, .data = random_floats(512 * 64, 1)});
  gguf.tensor({.name = "blk.0.attn_norm.weight", .dims = {512}, .data = random_floats(512, 2)});
  gguf.tensor({.name = "blk.0.attn_q.weight", .dims = {512, 40}, .data = random_floats(512 * 40, 3)});
  gguf.tensor({.name = "blk.0.ffn_down.weight", .dims = {96, 33}, .data = random_floats(96 * 33, 4)});
  return gguf;
}

std::shared_ptr<const ModelSource> source_of(GgufBuilder gguf) {
  return std::make_shared<GgufFile>(
      GgufFile::open(File::from_memory("model.gguf", gguf.build()), File::open));
}

std::vector<std::uint8_t> data_of(const ModelSource& model, const GgufTensor& tensor) {
  std::vector<std::uint8_t> bytes(tensor.bytes);
  model.read(tensor, 0, bytes.data(), bytes.size());
  return bytes;
}

std::size_t entries_of(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("a quantized source reads the same bytes in any pieces") {
  const auto source = source_of(small_model());
  for (const FileType type :
       {FileType::q4_k_m, FileType::q8_0, FileType::bf16, FileType::iq4_nl, FileType::q4_1}) {
    const QuantizedSource model(source, {.type = type});
    for (const GgufTensor& tensor : model.tensors()) {
      CAPTURE(tensor.name);
      CAPTURE(name_of(tensor.dtype));
      const std::vector<std::uint8_t> whole = data_of(model, tensor);
      std::mt19937 rng(7);
      for (int i = 0; i < 20; i++) {
        const std::size_t begin = rng() % whole.size(), size = rng() % (whole.size() - begin) + 1;
        std::vector<std::uint8_t> piece(size + 2, 0xee);
        model.read(tensor, begin, piece.data() + 1, size);
        CHECK(std::equal(piece.begin() + 1, piece.end() - 1,
                         whole.begin() + static_cast<std::ptrdiff_t>(begin)));
        CHECK(piece.front() == 0xee);
        CHECK(piece.back() == 0xee);
      }
    }
  }
}

TEST_CASE("an importance matrix weighs each row alike, and each expert by its own") {
  GgufBuilder gguf = small_model();
  gguf.tensor({.name = "blk.0.ffn_up_exps.weight", .dims = {256, 3, 2}, .data = random_floats(256 * 6, 5)});
  const auto source = source_of(gguf);
  auto matrix = std::make_shared<ImportanceMatrix>();
  ImportanceMatrix::Entry& entry = matrix->entries["blk.0.ffn_up_exps.weight"];
  entry = {.cols = 256, .matrices = 2, .sums = std::vector<float>(512, 1.0f), .counts = {1, 1}};
  for (std::size_t i = 0; i < 512; i++) entry.sums[i] = static_cast<float>(i < 256 ? i % 5 : i % 3) + 0.1f;
  const QuantizedSource model(source, {.type = FileType::q4_k_s, .importance = matrix});
  const GgufTensor& tensor = *model.find_tensor("blk.0.ffn_up_exps.weight");
  const std::vector<std::uint8_t> found = data_of(model, tensor);
  const std::vector<std::uint8_t> bytes = random_floats(256 * 6, 5);
  for (std::size_t row = 0; row < 6; row++) {
    float x[256];
    std::memcpy(x, bytes.data() + row * sizeof(x), sizeof(x));
    std::vector<std::uint32_t> blocks(144 / 4);
    quantize_weights(tensor.dtype, x, entry.means(row / 3).data(), blocks.data(), 256);
    CHECK(std::memcmp(blocks.data(), found.data() + row * 144, 144) == 0);
  }
  CHECK(model.get_uint("quantize.imatrix.entries_count") == 1);

  entry.cols = 128;
  expect_error(ErrorCode::invalid_argument, "another model",
               [&] { QuantizedSource(source, {.type = FileType::q4_k_s, .importance = matrix}); });
}

TEST_CASE("a written file has the metadata and what the source reads") {
  const TempDir dir;
  const std::string path = (dir.path / "out.gguf").string();
  const auto source = source_of(small_model());
  const QuantizedSource model(source, {.type = FileType::q4_k_m});
  std::uint64_t last = 0, total = 0;
  const ConvertResult result = write_model(
      model, path, 3,
      [&](std::uint64_t done, std::uint64_t of) {
        CHECK(done > last);
        last = done;
        total = of;
      },
      CancelFlag());
  CHECK(last == total);
  CHECK(fs::file_size(path) == result.file_bytes);
  CHECK(entries_of(dir.path) == 1);

  const GgufFile file = GgufFile::open(path);
  CHECK(file.version() == 3);
  CHECK(file.get_uint("general.file_type") == 15);
  CHECK(file.get_uint("general.quantization_version") == 2);
  REQUIRE(file.metadata().size() == source->metadata().size() + 1);
  for (std::size_t i = 0; i < source->metadata().size(); i++) {
    CHECK(file.metadata()[i].first == source->metadata()[i].first);
    CHECK(file.metadata_type(i) == source->metadata_type(i));
  }
  CHECK(std::get<std::int64_t>(*file.find("a.negative")) == -7);
  CHECK(file.get_float("a.double") == 0.1);
  CHECK(file.get_uint("a.large") == std::uint64_t{1} << 63);
  CHECK(file.get_uint("a.byte") == 200);
  CHECK(file.get_bool("a.flag"));
  CHECK(file.get_array("a.strings").string_at(2) == "two\nlines");
  CHECK(file.get_array("a.numbers").integer_at(0) == -1);
  CHECK(file.get_array("a.empty").size() == 0);

  REQUIRE(file.tensors().size() == 4);
  const DType expected[] = {DType::q6_k, DType::f32, DType::q4_k, DType::q8_0};
  for (std::size_t i = 0; i < 4; i++) {
    const GgufTensor &found = file.tensors()[i], &wanted = model.tensors()[i];
    CAPTURE(found.name);
    CHECK(found.name == wanted.name);
    CHECK(found.dtype == expected[i]);
    CHECK(found.offset % 32 == 0);
    CHECK(data_of(file, found) == data_of(model, wanted));
  }
}

TEST_CASE("converting a file onto itself") {
  const TempDir dir;
  const std::string path = (dir.path / "model.gguf").string();
  const std::vector<std::uint8_t> bytes = small_model().build();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  const std::shared_ptr<const ModelSource> source = ModelSource::open(path);
  write_model(QuantizedSource(source, {.type = FileType::q8_0}), path, 2, {}, CancelFlag());
  CHECK(GgufFile::open(path).find_tensor("blk.0.attn_q.weight")->dtype == DType::q8_0);
  CHECK(entries_of(dir.path) == 1);
}

TEST_CASE("what stops a conversion leaves no file") {
  const TempDir dir;
  const std::string path = (dir.path / "out.gguf").string();
  const auto write = [&](GgufBuilder gguf, FileType type, const CancelFlag& cancel,
                         const ConvertProgress& progress = {}) {
    write_model(QuantizedSource(source_of(std::move(gguf)), {.type = type}), path, 2, progress, cancel);
  };
  CancelFlag cancelled;
  expect_error(ErrorCode::aborted, "", [&] {
    write(small_model(), FileType::q4_k_m, cancelled,
          [&](std::uint64_t, std::uint64_t) { cancelled.cancel(); });
  });
  const auto with_weight = [&](float weight) {
    GgufBuilder gguf = small_model();
    std::memcpy(gguf.tensors[2].data.data() + 4 * 700, &weight, 4);
    return gguf;
  };
  for (const float weight : {NAN, INFINITY})
    expect_error(ErrorCode::invalid_model, "not finite",
                 [&] { write(with_weight(weight), FileType::q4_k_m, CancelFlag()); });
  expect_error(ErrorCode::invalid_model, "beyond the range of F16",
               [&] { write(with_weight(-70000.0f), FileType::f16, CancelFlag()); });
  expect_error(ErrorCode::invalid_model, "beyond the range of Q8_0",
               [&] { write(with_weight(1e7f), FileType::q8_0, CancelFlag()); });
  CHECK(entries_of(dir.path) == 0);
  write(with_weight(-70000.0f), FileType::bf16, CancelFlag());
  CHECK(entries_of(dir.path) == 1);
}

TEST_CASE("quantized tensors need consent, and some types an importance matrix") {
  GgufBuilder gguf = small_model();
  gguf.tensors[2].type = static_cast<std::uint32_t>(DType::q8_0);
  gguf.tensors[2].data = {};
  const auto source = source_of(gguf);
  expect_error(ErrorCode::invalid_argument, "quantized already",
               [&] { QuantizedSource(source, {.type = FileType::q4_k_m}); });
  const QuantizedSource again(source, {.type = FileType::q4_k_m, .importance = nullptr, .requantize = true});
  CHECK(again.find_tensor("blk.0.attn_q.weight")->dtype == DType::q4_k);
  // What keeps its type is copied, quantized or not.
  CHECK(QuantizedSource(source, {.type = FileType::q8_0}).find_tensor("blk.0.attn_q.weight")->dtype ==
        DType::q8_0);
  expect_error(ErrorCode::invalid_argument, "needs an importance matrix",
               [&] { QuantizedSource(source_of(small_model()), {.type = FileType::q2_k_s}); });
}

TEST_CASE("16-bit norms become F32, and a model without numbers of layers is refused") {
  GgufBuilder gguf = small_model();
  gguf.tensors[1].type = static_cast<std::uint32_t>(DType::bf16);
  gguf.tensors[1].data = std::vector<std::uint8_t>(1024, 0x3f);
  const QuantizedSource model(source_of(gguf), {.type = FileType::bf16});
  const GgufTensor& norm = *model.find_tensor("blk.0.attn_norm.weight");
  CHECK(norm.dtype == DType::f32);
  float first;
  model.read(norm, 0, &first, 4);
  CHECK(first == doctest::Approx(0.746f).epsilon(0.01));
  expect_error(ErrorCode::invalid_model, "block_count", [&] {
    GgufBuilder incomplete = small_model();
    incomplete.remove("llama.block_count");
    QuantizedSource(source_of(incomplete), {.type = FileType::q8_0});
  });
}
