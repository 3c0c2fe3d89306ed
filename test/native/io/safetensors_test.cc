#include "io/safetensors.h"

#include "expect_error.h"
#include "folder_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

std::vector<StoredTensor> read(const std::string& bytes) {
  return read_safetensors(*File::from_memory("memory.safetensors", {bytes.begin(), bytes.end()}), 3);
}

std::string tensor_text(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

/// A header with one tensor and 16 bytes of data.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return safetensors_file("{\"a\":" + tensor_text(dtype, shape, offsets) + "}", std::string(16, 'x'));
}

}  // namespace

TEST_CASE("safetensors: tensors in the order of their data") {
  const std::string a = tensor_text("F32", "[2,1]", "[8,16]"), b = tensor_text("BF16", "[4]", "[0,8]");
  const std::string header = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" + a + ",\"b\":" + b +
                             ",\"empty\":" + tensor_text("F32", "[0,5]", "[8,8]") +
                             ",\"scalar\":" + tensor_text("F8_E4M3", "[]", "[16,17]") + "}   ";
  const auto tensors = read(safetensors_file(header, std::string(17, 'x')));
  REQUIRE(tensors.size() == 4);
  CHECK(tensors[0].name == "b");
  CHECK(tensors[0].type == StoredType::bf16);
  CHECK(tensors[0].offset == 8 + header.size());
  CHECK(tensors[0].bytes == 8);
  CHECK(tensors[0].file_index == 3);
  CHECK(tensors[1].name == "empty");
  CHECK(tensors[2].shape == std::vector<std::uint64_t>{2, 1});
  CHECK(tensors[3].shape.empty());
}

TEST_CASE("safetensors: hostile files end in errors") {
  struct Case {
    std::string bytes, mentions;
    ErrorCode code = ErrorCode::invalid_file;
  };
  std::string long_header;
  append<std::uint64_t>(long_header, 1000);
  std::string huge_header;
  append<std::uint64_t>(huge_header, ~std::uint64_t{0});
  const std::string a = tensor_text("F32", "[4]", "[0,16]");
  const Case cases[] = {
      {"", "an empty file"},
      {"GGUF....", "expected a safetensors file"},
      {"PK\x03\x04 and more bytes", "a zip archive"},
      {long_header + "{}", "the file is incomplete"},
      {huge_header + "{}", "the file is incomplete"},
      {safetensors_file("[]", ""), "expected a safetensors file"},
      {safetensors_file("{", ""), "the header"},
      {safetensors_file("{\"a\":1}", ""), "a"},
      {safetensors_file("{\"a\":{}}", ""), "dtype"},
      {safetensors_file("{\"a\":" + a + "}", std::string(15, 'x')), "of which there are 15"},
      {safetensors_file("{\"a\":" + a + "}", std::string(17, 'x')), "the file has"},
      {safetensors_file("{\"a\":" + a + ",\"a\":" + a + "}", std::string(16, 'x')), "\"a\""},
      {safetensors_file("{\"a\":" + a + ",\"b\":" + a + "}", std::string(16, 'x')), "begins at byte"},
      {safetensors_file("{\"__metadata__\":{\"x\":1},\"a\":" + a + "}", std::string(16, 'x')),
       "__metadata__"},
      {safetensors_file("{\"__metadata__\":[],\"a\":" + a + "}", std::string(16, 'x')), "__metadata__"},
      {one("F32", "[2]", "[0,8]"), "the tensors end at byte"},
      {one("F32", "[2]", "[8,16]"), "expected"},
      {one("F32", "[4]", "[16,0]"), "takes bytes 16 to 0"},
      {one("F32", "[4]", "[0,18446744073709551615]"), "data_offsets"},
      {one("F32", "[4]", "[0,9223372036854775807]"), "of which there are 16"},
      {one("F32", "[4]", "[-1,16]"), "data_offsets"},
      {one("F32", "[4]", "[0]"), "two numbers"},
      {one("F32", "[4]", "[0,16,16]"), "two numbers"},
      {one("F32", "[4]", "[0,16.5]"), "data_offsets"},
      {one("F32", "[5]", "[0,16]"), "takes 20 bytes, found 16"},
      {one("F32", "[4294967296,4294967296,4]", "[0,16]"), "does not fit 64 bits"},
      {one("F32", "[-4]", "[0,16]"), "shape"},
      {one("F32", "\"4\"", "[0,16]"), "shape"},
      {one("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", "[0,16]"), "at most 16 dimensions"},
      {one("F4", "[33]", "[0,16]"), "whole bytes"},
      {one("F7", "[4]", "[0,16]"), "unknown type", ErrorCode::unsupported_file},
      {one("f32", "[4]", "[0,16]"), "unknown type", ErrorCode::unsupported_file},
  };
  for (const Case& c : cases) {
    CAPTURE(c.bytes);
    expect_error(c.code, c.mentions, [&] { (void)read(c.bytes); });
  }
}

TEST_CASE("safetensors: a file truncated or changed anywhere is an error or a list of tensors within it") {
  const std::string whole =
      safetensors_file({{"a", "F32", {2, 2}, std::string(16, 'a')}, {"b", "F16", {3}, std::string(6, 'b')}});
  REQUIRE(read(whole).size() == 2);
  const auto check = [](const std::string& bytes) {
    try {
      for (const StoredTensor& t : read(bytes)) CHECK(t.offset + t.bytes <= bytes.size());
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::invalid_file || error.code() == ErrorCode::unsupported_file));
    }
  };
  for (std::size_t size = 0; size < whole.size(); ++size)
    expect_error(ErrorCode::invalid_file, "memory", [&] { (void)read(whole.substr(0, size)); });
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : std::initializer_list<int>{0, 1, '"', '0', '9', '[', '}', 0x7f, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(value);
      check(bytes);
    }
  }
}
