// Systematic damage: every truncation and every single-byte change of small files ends in a typed error or a
// clean result. test/fixtures/malformed.ts has the named malformed files with the error expected of each.
#include "expect_error.h"
#include "gguf_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

GgufBuilder small_file() {
  GgufBuilder b;
  b.set("general.architecture", "llama").set("n", 7u).set("flag", true);
  b.set_strings("strings", {"a", "bc"}).set_numbers<float>("floats", GgufType::f32, {1, 2});
  b.tensor({"t", {4, 2}}).tensor({"q", {32}, 8});
  return b;
}

bool is_file_error(ErrorCode code) {
  return code == ErrorCode::invalid_file || code == ErrorCode::unsupported_file ||
         code == ErrorCode::file_not_found;  // split.count may appear by chance
}

}  // namespace

TEST_CASE("a file truncated anywhere is an error") {
  const std::vector<std::uint8_t> whole = small_file().build();
  (void)open_bytes(whole);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    expect_error(ErrorCode::invalid_file, "memory.gguf", [&] {
      (void)open_bytes({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    });
  }
}

TEST_CASE("any byte changed to any value is an error or a file") {
  const std::vector<std::uint8_t> whole = small_file().build();
  std::size_t accepted = 0, refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::vector<std::uint8_t> bytes = whole;
      bytes[at] = static_cast<std::uint8_t>(value);
      try {
        (void)open_bytes(std::move(bytes));
        ++accepted;
      } catch (const Error& error) {
        CHECK_MESSAGE(is_file_error(error.code()), error.what());
        ++refused;
      }
    }
  }
  MESSAGE(accepted << " accepted, " << refused << " refused");
  CHECK(refused > 10'000);
}

TEST_CASE("any aligned 64-bit word set to an extreme is an error or a file") {
  const std::vector<std::uint8_t> whole = small_file().build();
  const std::uint64_t extremes[] = {
      0,         1,          0x7fffffff,      0x80000000,     0xffffffff,
      INT64_MAX, UINT64_MAX, UINT64_MAX - 31, UINT64_MAX / 4, std::uint64_t{1} << 62};
  for (std::size_t at = 0; at + 8 <= whole.size(); ++at) {
    for (const std::uint64_t extreme : extremes) {
      std::vector<std::uint8_t> bytes = whole;
      std::memcpy(bytes.data() + at, &extreme, sizeof(extreme));
      try {
        (void)open_bytes(std::move(bytes));
      } catch (const Error& error) {
        CHECK_MESSAGE(is_file_error(error.code()), error.what());
      }
    }
  }
}

TEST_CASE("limits for unreasonably large files") {
  SUBCASE("a header of more than 32 MiB") {
    GgufBuilder b;
    b.set("a", std::string(std::size_t{25} << 20, 'x')).set("b", std::string(std::size_t{10} << 20, 'x'));
    expect_error(ErrorCode::unsupported_file, "header larger than", [&] { (void)open_bytes(b.build()); });
  }
  SUBCASE("an array of more than 2^22 elements") {
    GgufBuilder b;
    b.set_numbers("a", GgufType::u8, std::vector<std::uint8_t>((1 << 22) + 1));
    expect_error(ErrorCode::unsupported_file, "at most 4194304", [&] { (void)open_bytes(b.build()); });
  }
  SUBCASE("more than 65536 keys") {
    GgufBuilder b;
    for (std::size_t i = 0; i <= 65536; ++i)
      b.metadata.push_back({numbered("k", i), GgufType::u8, Bytes().put('x')});
    expect_error(ErrorCode::unsupported_file, "65537 metadata entries", [&] { (void)open_bytes(b.build()); });
  }
}
