// Importance matrices: both forms, what is written, and hostile files.
#include "convert/importance_matrix.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "../io/expect_error.h"
#include "../io/gguf_builder.h"
#include "../io/temp_dir.h"

using namespace cria;
using namespace cria::test;

namespace {

std::vector<std::uint8_t> floats(std::vector<float> values) {
  Bytes bytes;
  for (const float v : values) bytes.put(v);
  return bytes.data;
}

GgufBuilder sound() {
  GgufBuilder gguf;
  gguf.set("general.type", "imatrix");
  gguf.set_strings("imatrix.datasets", {"text.txt"});
  gguf.set("imatrix.chunk_count", std::uint32_t{8});
  gguf.set("imatrix.chunk_size", std::uint32_t{64});
  gguf.tensor({.name = "a.weight.in_sum2", .dims = {2, 3}, .data = floats({1, 2, 3, 4, 5, 6})});
  gguf.tensor({.name = "a.weight.counts", .dims = {1, 3}, .data = floats({1, 2, 0})});
  return gguf;
}

std::shared_ptr<const File> file_of(std::vector<std::uint8_t> bytes) {
  return File::from_memory("imatrix", std::move(bytes));
}
ImportanceMatrix read_bytes(std::vector<std::uint8_t> bytes) {
  return ImportanceMatrix::read(file_of(std::move(bytes)));
}
ImportanceMatrix read_built(GgufBuilder gguf) { return read_bytes(gguf.build()); }

Bytes legacy(std::int32_t calls, std::vector<float> values) {
  Bytes bytes;
  bytes.put(std::int32_t{1}).put(std::int32_t{8});
  for (const char c : std::string("a.weight")) bytes.put(c);
  bytes.put(calls).put(static_cast<std::int32_t>(values.size()));
  for (const float v : values) bytes.put(v);
  return bytes;
}

}  // namespace

TEST_CASE("llama.cpp's file" *
          doctest::skip(!std::filesystem::exists(CRIA_SHARED_DATA "/quantized/tiny-imatrix.gguf"))) {
  const ImportanceMatrix matrix = ImportanceMatrix::read(CRIA_SHARED_DATA "/quantized/tiny-imatrix.gguf");
  CHECK(matrix.entries.size() == 14);
  CHECK(matrix.chunk_count == 8);
  CHECK(matrix.chunk_size == 64);
  CHECK(matrix.datasets == std::vector<std::string>{"text.txt"});
  const ImportanceMatrix::Entry& down = matrix.entries.at("blk.1.ffn_down.weight");
  CHECK(down.cols == 512);
  CHECK(down.counts == std::vector<float>{512});
  const ImportanceMatrix::Entry& key = matrix.entries.at("blk.0.attn_k.weight");
  CHECK(key.means(0)[0] == doctest::Approx(548.6644287 / 512));
}

TEST_CASE("what is written reads back") {
  const TempDir dir;
  const std::string path = (dir.path / "out.gguf").string();
  const ImportanceMatrix before = read_built(sound());
  before.write(path);
  const ImportanceMatrix after = ImportanceMatrix::read(path);
  CHECK(after.datasets == before.datasets);
  CHECK(after.chunk_count == 8);
  CHECK(after.chunk_size == 64);
  REQUIRE(after.entries.size() == 1);
  const ImportanceMatrix::Entry& entry = after.entries.at("a.weight");
  CHECK(entry.cols == 2);
  CHECK(entry.matrices == 3);
  CHECK(entry.means(0) == std::vector<float>{1, 2});
  CHECK(entry.means(1) == std::vector<float>{1.5, 2});
  CHECK(entry.means(2) == std::vector<float>{1, 1});  // an expert that the text never reached
  CHECK(after.path == path);
}

TEST_CASE("the old form") {
  const ImportanceMatrix plain = read_bytes(legacy(4, {2, 8}).data);
  CHECK(plain.entries.at("a.weight").means(0) == std::vector<float>{0.5, 2});
  Bytes named = legacy(4, {2, 8});
  named.put(std::int32_t{3}).put(std::int32_t{5});
  for (const char c : std::string("a.txt")) named.put(c);
  const ImportanceMatrix matrix = read_bytes(named.data);
  CHECK(matrix.chunk_count == 3);
  CHECK(matrix.datasets == std::vector<std::string>{"a.txt"});
}

TEST_CASE("hostile importance matrices") {
  const auto refused = [](const std::string& mentions, std::vector<std::uint8_t> bytes) {
    expect_error(ErrorCode::invalid_file, mentions, [&] { read_bytes(std::move(bytes)); });
  };
  const auto changed = [](const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder gguf = sound();
    change(gguf);
    return gguf.build();
  };
  refused("expected an importance matrix", changed([](GgufBuilder& g) { g.set("general.type", "model"); }));
  refused("expected an importance matrix", changed([](GgufBuilder& g) { g.remove("general.type"); }));
  refused("counts", changed([](GgufBuilder& g) { g.tensors.pop_back(); }));
  refused("no entry", changed([](GgufBuilder& g) { g.tensors.clear(); }));
  refused("F32 tensors", changed([](GgufBuilder& g) {
            g.tensors[1].dims = {1, 2};
            g.tensors[1].data = floats({1, 2});
          }));
  refused("F32 tensors", changed([](GgufBuilder& g) {
            g.tensors[0].type = 1;
            g.tensors[0].data.resize(12);
          }));
  for (const float wrong : {-1.0f, NAN, INFINITY}) {
    refused("finite numbers",
            changed([&](GgufBuilder& g) { g.tensors[0].data = floats({1, 2, 3, wrong, 5, 6}); }));
    refused("finite numbers", changed([&](GgufBuilder& g) { g.tensors[1].data = floats({1, wrong, 1}); }));
    refused("finite numbers", legacy(1, {1, wrong}).data);
  }
  refused("", {});
  refused("", {1, 2, 3});
  std::vector<std::uint8_t> cut = legacy(4, {2, 8}).data;
  for (std::size_t size = 0; size < cut.size(); size++)
    refused("", std::vector<std::uint8_t>(cut.begin(), cut.begin() + static_cast<std::ptrdiff_t>(size)));
  refused("a number of calls", legacy(0, {1}).data);
  refused("a number of calls", legacy(-5, {1}).data);
  Bytes huge;  // two thousand million columns in a file of a few bytes
  huge.put(std::int32_t{1}).put(std::int32_t{1}).put('a').put(std::int32_t{1}).put(std::int32_t{1} << 24);
  refused("", huge.data);
  Bytes twice = legacy(1, {1});
  twice.data[0] = 2;
  const Bytes again = legacy(1, {1});
  twice.data.insert(twice.data.end(), again.data.begin() + 4, again.data.end());
  refused("twice", twice.data);
}
