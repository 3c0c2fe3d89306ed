#include "io/byte_cursor.h"

#include <numeric>

#include "expect_error.h"

using namespace cria;
using cria::test::expect_error;

namespace {

std::shared_ptr<const File> counting_file(std::size_t bytes) {
  std::vector<std::uint8_t> data(bytes);
  std::iota(data.begin(), data.end(), std::uint8_t{0});
  return File::from_memory("counting", std::move(data));
}

}  // namespace

TEST_CASE("checked arithmetic") {
  std::uint64_t result = 0;
  CHECK(checked_add(UINT64_MAX - 1, 1, &result));
  CHECK(result == UINT64_MAX);
  CHECK_FALSE(checked_add(UINT64_MAX, 1, &result));
  CHECK(checked_mul(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1, &result));
  CHECK(result == 0xffffffff00000000u);
  CHECK_FALSE(checked_mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32, &result));
  CHECK(checked_mul(0, UINT64_MAX, &result));
  CHECK(result == 0);
  CHECK(checked_align_up(0, 32, &result));
  CHECK(result == 0);
  CHECK(checked_align_up(33, 32, &result));
  CHECK(result == 64);
  CHECK_FALSE(checked_align_up(UINT64_MAX - 3, 32, &result));
}

TEST_CASE("a cursor reads across the end of its buffer") {
  const auto file = counting_file(200'003);
  ByteCursor cursor(*file, UINT64_MAX);
  for (std::uint64_t at = 0; at + 8 <= file->size(); at += 8) {
    const auto value = cursor.read<std::uint64_t>("a value");
    std::uint64_t expected = 0;
    for (int b = 7; b >= 0; --b) expected = expected << 8 | ((at + b) & 0xff);
    REQUIRE(value == expected);
  }
  CHECK(cursor.remaining() == 3);
  expect_error(ErrorCode::invalid_file, "a value needs 8 bytes",
               [&] { (void)cursor.read<std::uint64_t>("a value"); });
  CHECK(cursor.remaining() == 3);  // a failed read does not move the cursor
  CHECK(cursor.read<std::uint8_t>("a byte") == 0x40);
}

TEST_CASE("skipping and going back") {
  const auto file = counting_file(200'000);
  ByteCursor cursor(*file, UINT64_MAX);
  cursor.skip(150'000, "a gap");
  CHECK(cursor.position() == 150'000);
  CHECK(cursor.read<std::uint8_t>("a byte") == 150'000 % 256);
  cursor.seek_back(150'000);
  CHECK(cursor.read<std::uint8_t>("a byte") == 150'000 % 256);
  cursor.seek_back(7);
  CHECK(cursor.read<std::uint8_t>("a byte") == 7);
  CHECK(cursor.position() == 8);
  expect_error(ErrorCode::invalid_file, "ends after another 199992 bytes",
               [&] { cursor.skip(UINT64_MAX, "a gap"); });
  cursor.skip(199'992, "the rest");
  CHECK(cursor.remaining() == 0);
}

TEST_CASE("counts are checked before anything is allocated") {
  const auto file = counting_file(1000);
  ByteCursor cursor(*file, UINT64_MAX);
  cursor.require(125, 8, "an array");
  expect_error(ErrorCode::invalid_file, "126 times at least 8 bytes",
               [&] { cursor.require(126, 8, "an array"); });
  expect_error(ErrorCode::invalid_file, "an array",
               [&] { cursor.require(std::uint64_t{1} << 61, 8, "an array"); });
  expect_error(ErrorCode::invalid_file, "an array", [&] { cursor.require(UINT64_MAX, 8, "an array"); });
}

TEST_CASE("the limit and the end of the file are different errors") {
  const auto file = counting_file(1000);
  ByteCursor cursor(*file, 100);
  cursor.skip(96, "a gap");
  expect_error(ErrorCode::unsupported_file, "larger than the supported 100 bytes",
               [&] { (void)cursor.read<std::uint64_t>("it"); });
  CHECK(cursor.read<std::uint32_t>("it") == 0x63626160);
}

TEST_CASE("strings: length, limit and end") {
  std::vector<std::uint8_t> bytes = {3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c', 9, 0, 0, 0, 0, 0, 0, 0, 'd'};
  const auto file = File::from_memory("strings", bytes);
  ByteCursor cursor(*file, UINT64_MAX);
  cursor.set_context("entry 7");
  expect_error(ErrorCode::invalid_file, "at most 2 are allowed",
               [&] { (void)cursor.read_string(2, "the key"); });
  cursor.seek_back(0);
  CHECK(cursor.read_string(3, "the key") == "abc");
  try {
    (void)cursor.read_string(100, "the key");
    FAIL("no error");
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.find("strings: entry 7: the key") == 0);
    CHECK(message.find("(at byte 19)") != std::string::npos);
    bool has_offset = false;
    for (const auto& [name, value] : error.details())
      has_offset = has_offset || (name == "offset" && value.number() == 19);
    CHECK(has_offset);
  }
}
