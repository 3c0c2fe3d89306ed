#include "core/hash.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string_view>
#include <vector>

using namespace cria;

namespace {

struct Vector {
  std::size_t bytes;  // of the buffer below
  std::uint64_t seed;
  std::uint64_t hash;
};

constexpr std::uint64_t kSeed = 2654435761;

// The xxHash project's own vectors: github.com/Cyan4973/xxHash, cli/xsum_sanity_check.c (0.8) and
// tests/sanity_test_vectors.h, XSUM_XXH64_testdata.
constexpr Vector kVectors[] = {
    {0, 0, 0xEF46DB3751D8E999},       {0, kSeed, 0xAC75FDA2929B17EF},  {1, 0, 0xE934A84ADB052768},
    {1, kSeed, 0x5014607643A9B4C3},   {2, 0, 0x5D48CD60A77E23FF},      {3, 0, 0xFF7E1959CB50794A},
    {4, 0, 0x9136A0DCA57457EE},       {4, kSeed, 0xCAAB286BD8E9FDB5},  {8, 0, 0xCDBCF538E71D1348},
    {8, kSeed, 0xFE0C047A5353CDAC},   {9, 0, 0x554B1AE991EDA6B6},      {14, 0, 0x8282DCC4994E35C8},
    {14, kSeed, 0xC3BD6BF63DEB6DF0},  {16, 0, 0x98C90B57FDFCB55C},     {31, 0, 0x299B39A290E6D783},
    {32, 0, 0x18B216492BB44B70},      {32, kSeed, 0xB3F33BDF93ADE409}, {33, 0, 0x55C8DC3E578F5B59},
    {64, 0, 0xEF558F8ACAC2B5CD},      {128, 0, 0x90CA021457D96DC5},    {222, 0, 0xB641AE8CB691C174},
    {222, kSeed, 0x20CB8AB7AE10C14A}, {256, 0, 0x5E3F5BF94D574981},    {4096, 0, 0xAB77F4AF85F4E70B},
    {4160, 0, 0xEEE6A4E2AC952A5E},
};

/// The buffer of those vectors, filled as in the same sources.
std::vector<std::uint8_t> vector_buffer() {
  std::vector<std::uint8_t> buffer(4160);
  std::uint64_t generator = kSeed;
  for (std::uint8_t& byte : buffer) {
    byte = static_cast<std::uint8_t>(generator >> 56);
    generator *= 11400714785074694797u;
  }
  return buffer;
}

}  // namespace

TEST_CASE("XXH64 gives the published values") {
  const std::vector<std::uint8_t> buffer = vector_buffer();
  for (const Vector& vector : kVectors) {
    CAPTURE(vector.bytes);
    CAPTURE(vector.seed);
    CHECK(xxh64(buffer.data(), vector.bytes, vector.seed) == vector.hash);
    Xxh64 bytewise(vector.seed);
    for (std::size_t i = 0; i < vector.bytes; ++i) bytewise.update(&buffer[i], 1);
    CHECK(bytewise.digest() == vector.hash);
  }
  constexpr std::string_view kText = "abc";
  CHECK(xxh64(kText.data(), kText.size()) == 0x44BC2CF5AD770999);
  CHECK(xxh64(nullptr, 0) == 0xEF46DB3751D8E999);
}

TEST_CASE("pieces of any size and alignment give the same hash, and an intermediate digest changes nothing") {
  const std::vector<std::uint8_t> buffer = vector_buffer();
  std::mt19937_64 random(7);
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const std::size_t begin = random() % 64;
    const std::size_t bytes = random() % 400;
    const std::size_t longest = 1 + random() % 100;
    Xxh64 hash(repeat);
    for (std::size_t at = 0; at < bytes;) {
      const std::size_t step = std::min(bytes - at, static_cast<std::size_t>(random() % (longest + 1)));
      hash.update(buffer.data() + begin + at, step);
      at += step;
      (void)hash.digest();
    }
    REQUIRE(hash.digest() == xxh64(buffer.data() + begin, bytes, repeat));
  }
}

TEST_CASE("every flipped bit changes the hash") {
  std::vector<std::uint8_t> buffer = vector_buffer();
  buffer.resize(100);
  const std::uint64_t hash = xxh64(buffer.data(), buffer.size());
  for (std::size_t bit = 0; bit < buffer.size() * 8; ++bit) {
    buffer[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    REQUIRE(xxh64(buffer.data(), buffer.size()) != hash);
    buffer[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
  }
}
