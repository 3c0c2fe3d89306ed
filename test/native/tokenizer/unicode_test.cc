#include "tokenizer/unicode.h"

#include <doctest/doctest.h>

#include <random>

#include "tokenizer/character.h"
#include "tokenizer/fixtures.h"

using namespace cria;
using namespace cria::test;

namespace {

/// "UTF-8 decoder" of the WHATWG Encoding Standard, step by step.
std::string whatwg_decode(std::string_view bytes) {
  std::string out, character;
  int needed = 0, seen = 0;
  unsigned char lower = 0x80, upper = 0xbf;
  const auto reset = [&] {
    character.clear();
    needed = seen = 0;
    lower = 0x80;
    upper = 0xbf;
  };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (needed == 0) {
      if (byte <= 0x7f) {
        out += bytes[i];
        continue;
      }
      if (byte >= 0xc2 && byte <= 0xdf) {
        needed = 1;
      } else if (byte >= 0xe0 && byte <= 0xef) {
        if (byte == 0xe0) lower = 0xa0;
        if (byte == 0xed) upper = 0x9f;
        needed = 2;
      } else if (byte >= 0xf0 && byte <= 0xf4) {
        if (byte == 0xf0) lower = 0x90;
        if (byte == 0xf4) upper = 0x8f;
        needed = 3;
      } else {
        out += kReplacementCharacter;
        continue;
      }
      character = bytes[i];
      continue;
    }
    if (byte < lower || byte > upper) {
      reset();
      out += kReplacementCharacter;
      --i;  // reads the byte again
      continue;
    }
    lower = 0x80;
    upper = 0xbf;
    character += bytes[i];
    if (++seen == needed) {
      out += character;
      reset();
    }
  }
  if (needed != 0) out += kReplacementCharacter;
  return out;
}

/// Bytes at which the rules change.
std::string random_bytes(std::mt19937& random, std::size_t size) {
  static const std::string interesting =
      "ab\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF";
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += interesting[random() % interesting.size()];
  return bytes;
}

}  // namespace

TEST_CASE("malformed UTF-8 is replaced as TextDecoder does") {
  CHECK(to_well_formed("a\xFF"
                       "b") ==
        "a\xEF\xBF\xBD"
        "b");
  CHECK(to_well_formed("\xE4\xB8") == kReplacementCharacter);
  CHECK(to_well_formed("\xF0\x9F\x99\xF0\x9F\x99\x82") == "\xEF\xBF\xBD\xF0\x9F\x99\x82");
  CHECK(to_well_formed("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(to_well_formed(std::string_view("\0\xC0\0", 3)) == std::string("\0\xEF\xBF\xBD\0", 5));
  std::mt19937 random(1);
  for (int i = 0; i < 50000; ++i) {
    const std::string bytes = random_bytes(random, random() % 12);
    const std::string expected = whatwg_decode(bytes);
    REQUIRE(to_well_formed(bytes) == expected);
    REQUIRE(is_well_formed_utf8(bytes) == (bytes == expected));
    REQUIRE(is_well_formed_utf8(expected));
  }
}

TEST_CASE("an incomplete character at the end is not appended") {
  std::string out;
  CHECK(append_well_formed("ab\xE4\xB8", out) == 2);
  CHECK(out == "ab");
  CHECK(append_well_formed("\xF0\x9F\x99", out) == 3);
  CHECK(append_well_formed("\xE4\xB8\xAD", out) == 0);
  CHECK(append_well_formed("\xED\xA0", out) == 0);  // cannot become a character: two errors
  CHECK(out == "ab\xE4\xB8\xAD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("classes of code points") {
  CHECK(unicode_version() == "16.0");
  CHECK(class_of(0xA7DA) == CharClass::upper);  // since Unicode 16
  CHECK(class_of(0x88F) == CharClass::other);   // a letter since Unicode 17
  for (std::uint32_t c : {0x41u, 0x7Au, 0xAAu, 0xE9u, 0x17Fu, 0x4E2Du, 0xAC00u, 0x10400u, 0x20000u, 0x2B0u}) {
    CHECK_MESSAGE(contains(kLetters, class_of(c)), c);
  }
  for (std::uint32_t c : {0x30u, 0x39u, 0xB2u, 0xBDu, 0x660u, 0x2160u, 0x3007u, 0x1D7CEu}) {
    CHECK_MESSAGE(contains(kNumbers, class_of(c)), c);
  }
  for (std::uint32_t c :
       {0x9u, 0xAu, 0xBu, 0xCu, 0xDu, 0x20u, 0x85u, 0xA0u, 0x1680u, 0x2003u, 0x2028u, 0x3000u}) {
    CHECK_MESSAGE(class_of(c) == CharClass::space, c);
  }
  for (std::uint32_t c : {0x0u, 0x1Cu, 0x200Bu, 0x200Du, 0xD800u, 0xFEFFu, 0xE000u, 0xE0020u, 0x10FFFFu}) {
    CHECK_MESSAGE(class_of(c) == CharClass::other, c);
  }
  const std::pair<std::uint32_t, CharClass> single[] = {
      {0x41, CharClass::upper},         {0x1C5, CharClass::upper},         {0x7A, CharClass::lower},
      {0x2B0, CharClass::other_letter}, {0x5D0, CharClass::other_letter},  {0x300, CharClass::mark},
      {0x903, CharClass::mark},         {0xE0100, CharClass::mark},        {0x660, CharClass::digit},
      {0xBD, CharClass::other_number},  {0x2160, CharClass::other_number}, {0x21, CharClass::punctuation},
      {0x5F, CharClass::punctuation},   {0x3002, CharClass::punctuation},  {0x24, CharClass::symbol},
      {0x2581, CharClass::symbol},      {0xFFFD, CharClass::symbol},       {0x1F642, CharClass::symbol}};
  for (const auto& [c, expected] : single) CHECK_MESSAGE(class_of(c) == expected, c);
}

TEST_CASE("the classes of ASCII are those of the table") {
  for (char c = 0; c >= 0 && c < 127; ++c)
    CHECK_MESSAGE(character_at(&c).cls == char_set(class_of(c)), int{c});
}
