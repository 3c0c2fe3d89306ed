// Well-formed GGUF files: every value type, arrays, lookups, tensor offsets.
#include "io/gguf.h"

#include <chrono>
#include <limits>

#include "expect_error.h"
#include "gguf_builder.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("every metadata type is read") {
  GgufBuilder b;
  b.set("u8", GgufType::u8, std::uint8_t{255}).set("i8", GgufType::i8, std::int8_t{-128});
  b.set("u16", GgufType::u16, std::uint16_t{65535}).set("i16", GgufType::i16, std::int16_t{-32768});
  b.set("u32", UINT32_MAX).set("i32", GgufType::i32, INT32_MIN);
  b.set("u64", GgufType::u64, UINT64_MAX).set("i64", GgufType::i64, INT64_MIN);
  b.set("f32", 0.1f).set("f64", GgufType::f64, 0.1).set("yes", true).set("no", false);
  b.set("text", std::string("caf\xc3\xa9\0!", 7)).set("empty", "");
  for (const std::uint32_t version : {2u, 3u}) {
    b.version = version;
    const GgufFile file = open_bytes(b.build());
    CHECK(file.version() == version);
    CHECK(file.metadata().size() == 14);
    CHECK(file.get_uint("u8") == 255);
    CHECK(file.get_uint("u16") == 65535);
    CHECK(file.get_uint("u32") == UINT32_MAX);
    CHECK(file.get_uint("u64") == UINT64_MAX);
    CHECK(std::get<std::int64_t>(*file.find("i8")) == -128);
    CHECK(std::get<std::int64_t>(*file.find("i16")) == -32768);
    CHECK(std::get<std::int64_t>(*file.find("i32")) == INT32_MIN);
    CHECK(std::get<std::int64_t>(*file.find("i64")) == INT64_MIN);
    CHECK(file.get_float("f32") == static_cast<double>(0.1f));
    CHECK(file.get_float("f64") == 0.1);
    CHECK(file.get_float("u8") == 255);
    CHECK(file.get_bool("yes"));
    CHECK_FALSE(file.get_bool("no"));
    CHECK(file.get_string("text") == std::string("caf\xc3\xa9\0!", 7));
    CHECK(file.get_string("empty").empty());
    CHECK(file.metadata()[0].first == "u8");
    CHECK(file.metadata_type(0) == GgufType::u8);
    CHECK(name_of(file.metadata_type(9)) == "float64");
  }
}

TEST_CASE("typed getters: missing keys and other types") {
  const GgufFile file =
      open_bytes(GgufBuilder().set("n", 7u).set("s", "x").set("negative", GgufType::i32, -1).build());
  CHECK(file.find("absent") == nullptr);
  CHECK(file.find("") == nullptr);
  CHECK_FALSE(file.find_uint("absent"));
  CHECK_FALSE(file.find_string("absent"));
  CHECK_FALSE(file.find_float("absent"));
  CHECK_FALSE(file.find_bool("absent"));
  CHECK(file.find_array("absent") == nullptr);
  expect_error(ErrorCode::invalid_model, "\"absent\": expected a string, found nothing",
               [&] { (void)file.get_string("absent"); });
  expect_error(ErrorCode::invalid_model, "missing", [&] { (void)file.get_array("absent"); });
  expect_error(ErrorCode::invalid_model, "\"s\": expected a non-negative integer, found a string",
               [&] { (void)file.find_uint("s"); });
  expect_error(ErrorCode::invalid_model, "found -1", [&] { (void)file.get_uint("negative"); });
  expect_error(ErrorCode::invalid_model, "expected a string, found an unsigned",
               [&] { (void)file.get_string("n"); });
  expect_error(ErrorCode::invalid_model, "expected a bool", [&] { (void)file.get_bool("n"); });
  expect_error(ErrorCode::invalid_model, "expected an array", [&] { (void)file.get_array("n"); });
  expect_error(ErrorCode::invalid_model, "expected a number", [&] { (void)file.get_float("s"); });
}

TEST_CASE("arrays of every type") {
  GgufBuilder b;
  b.set_strings("strings", {"one", "", "three", std::string(100'000, 'x')});
  b.set_strings("none", {});
  b.set_numbers<float>("f32", GgufType::f32, {0.5f, -2});
  b.set_numbers<double>("f64", GgufType::f64, {0.1});
  b.set_numbers<std::uint8_t>("u8", GgufType::u8, {0, 255});
  b.set_numbers<std::int8_t>("i8", GgufType::i8, {-1});
  b.set_numbers<std::uint16_t>("u16", GgufType::u16, {65535});
  b.set_numbers<std::int16_t>("i16", GgufType::i16, {-2});
  b.set_numbers<std::uint32_t>("u32", GgufType::u32, {UINT32_MAX});
  b.set_numbers<std::int32_t>("i32", GgufType::i32, {1, -3});
  b.set_numbers<std::uint64_t>("u64", GgufType::u64, {1, UINT64_MAX});
  b.set_numbers<std::int64_t>("i64", GgufType::i64, {INT64_MIN});
  b.set_numbers<std::uint8_t>("bool", GgufType::boolean, {1, 0});
  const GgufFile file = open_bytes(b.build());

  const GgufArray& strings = file.get_array("strings");
  CHECK(strings.holds_strings());
  REQUIRE(strings.size() == 4);
  CHECK(strings.string_at(0) == "one");
  CHECK(strings.string_at(1).empty());
  CHECK(strings.string_at(2) == "three");
  CHECK(strings.string_at(3) == std::string(100'000, 'x'));
  expect_error(ErrorCode::invalid_model, "\"strings\": expected a string as element 4",
               [&] { (void)strings.string_at(4); });
  expect_error(ErrorCode::invalid_model, "expected an integer", [&] { (void)strings.integer_at(0); });
  expect_error(ErrorCode::invalid_model, "expected a number", [&] { (void)strings.number_at(0); });
  CHECK(file.get_array("none").size() == 0);
  expect_error(ErrorCode::invalid_model, "none", [&] { (void)file.get_array("none").string_at(0); });

  CHECK(file.get_array("f32").number_at(1) == -2);
  CHECK(file.get_array("f64").number_at(0) == 0.1);
  CHECK(file.get_array("u8").integer_at(1) == 255);
  CHECK(file.get_array("i8").integer_at(0) == -1);
  CHECK(file.get_array("u16").integer_at(0) == 65535);
  CHECK(file.get_array("i16").integer_at(0) == -2);
  CHECK(file.get_array("u32").integer_at(0) == UINT32_MAX);
  CHECK(file.get_array("i32").number_at(1) == -3);
  CHECK(file.get_array("u64").integer_at(0) == 1);
  CHECK(file.get_array("u64").number_at(1) == 0x1p64);
  CHECK(file.get_array("i64").integer_at(0) == INT64_MIN);
  CHECK(file.get_array("bool").integer_at(0) == 1);
  CHECK(file.get_array("bool").number_at(1) == 0);
  expect_error(ErrorCode::invalid_model, "below 2^63", [&] { (void)file.get_array("u64").integer_at(1); });
  expect_error(ErrorCode::invalid_model, "an integer", [&] { (void)file.get_array("f32").integer_at(0); });
  expect_error(ErrorCode::invalid_model, "element 2", [&] { (void)file.get_array("bool").number_at(2); });
}

TEST_CASE("tensors: types, dims and absolute offsets") {
  for (const std::uint32_t alignment : {8u, 32u, 4096u}) {
    GgufBuilder b;
    b.alignment = alignment;
    if (alignment != 32) b.set("general.alignment", alignment);
    b.tensor({"a", {3}})
        .tensor({"b", {64, 2, 3}, 2})
        .tensor({"c", {256, 1, 1, 5}, 12})
        .tensor({"d", {5, 2}, 30});
    const GgufFile file = open_bytes(b.build());
    REQUIRE(file.tensors().size() == 4);
    const GgufTensor* a = file.find_tensor("a");
    const GgufTensor* q = file.find_tensor("b");
    const GgufTensor* c = file.find_tensor("c");
    REQUIRE(a != nullptr);
    REQUIRE(q != nullptr);
    REQUIRE(c != nullptr);
    CHECK(file.find_tensor("e") == nullptr);
    CHECK(a->dtype == DType::f32);
    CHECK(a->bytes == 12);
    CHECK(a->offset % alignment == 0);
    CHECK(q->dtype == DType::q4_0);
    CHECK(q->n_dims == 3);
    CHECK(q->dims[3] == 1);
    CHECK(q->elements() == 384);
    CHECK(q->bytes == 12 * 18);
    CHECK(q->offset == a->offset + (12 + alignment - 1) / alignment * alignment);
    CHECK(c->bytes == 5 * 144);
    CHECK(file.find_tensor("d")->bytes == 20);
    CHECK(file.find_tensor("d")->offset + 20 == file.total_file_bytes());
  }
}

TEST_CASE("every weight type of the format") {
  GgufBuilder b;
  const std::uint32_t ids[] = {0, 1, 30, 8, 2, 3, 6, 7, 10, 11, 12, 13, 14, 20, 23};
  for (const std::uint32_t id : ids) b.tensor({numbered("t", id), {256, 2}, id});
  const GgufFile file = open_bytes(b.build());
  for (const std::uint32_t id : ids)
    CHECK(static_cast<std::uint32_t>(file.find_tensor(numbered("t", id))->dtype) == id);
}

TEST_CASE("a file without tensors, and an empty one") {
  const GgufFile vocabulary = open_bytes(GgufBuilder().set("a", 1u).build());
  CHECK(vocabulary.tensors().empty());
  const GgufFile empty = open_bytes(GgufBuilder().build());
  CHECK(empty.metadata().empty());
  CHECK(empty.total_file_bytes() == 24);
}

TEST_CASE("a GgufFile may be moved") {
  GgufFile file =
      open_bytes(GgufBuilder().set("short", 1u).set_strings("s", {"x"}).tensor({"t", {4}}).build());
  const GgufFile moved = std::move(file);
  CHECK(moved.get_uint("short") == 1);
  CHECK(moved.get_array("s").string_at(0) == "x");
  CHECK(moved.find_tensor("t") != nullptr);
}

TEST_CASE("a vocabulary of Llama 3's size is parsed in well under 100 ms") {
  GgufBuilder b;
  std::vector<std::string> tokens, merges;
  for (std::size_t i = 0; i < 128'256; ++i) tokens.push_back(numbered("token", i));
  for (std::size_t i = 0; i < 280'147; ++i) merges.push_back(numbered("left", i) + " right");
  b.set_strings("tokenizer.ggml.tokens", tokens).set_strings("tokenizer.ggml.merges", merges);
  std::vector<std::uint8_t> bytes = b.build();
  const auto begin = std::chrono::steady_clock::now();
  const GgufFile file = open_bytes(std::move(bytes));
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  CHECK(file.get_array("tokenizer.ggml.merges").string_at(280'146) == "left280146 right");
  MESSAGE("parsed in " << ms << " ms");
  WARN(ms < 100);  // a loaded machine or a sanitizer may take longer
}
