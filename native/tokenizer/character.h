// One character of well-formed UTF-8 with its class, as the splitters read it.
#pragma once

#include <array>

#include "tokenizer/unicode.h"

namespace cria {

constexpr std::array<CharSet, 128> make_ascii_classes() noexcept {
  std::array<CharSet, 128> sets{};
  for (auto& set : sets) set = char_set(CharClass::other);
  for (int c = 'A'; c <= 'Z'; ++c) {
    sets[c] = char_set(CharClass::upper);
    sets[c + 32] = char_set(CharClass::lower);
  }
  for (int c = '0'; c <= '9'; ++c) sets[c] = char_set(CharClass::digit);
  for (int c = '\t'; c <= '\r'; ++c) sets[c] = kSpaces;
  sets[' '] = kSpaces;
  for (char c : {'!', '"', '#', '%', '&', '\'', '(',  ')', '*', ',', '-', '.',
                 '/', ':', ';', '?', '@', '[',  '\\', ']', '_', '{', '}'})
    sets[static_cast<int>(c)] = kPunctuation;
  for (char c : {'$', '+', '<', '=', '>', '^', '`', '|', '~'}) sets[static_cast<int>(c)] = kSymbols;
  return sets;
}
inline constexpr std::array<CharSet, 128> kAsciiClasses = make_ascii_classes();

struct Character {
  CharSet cls;  // a set of one
  std::uint32_t length;
  bool in(CharSet set) const noexcept { return (cls & set) != 0; }
};

/// The character at `p`, of two bytes or more.
Character wide_character_at(const char* p) noexcept;

/// The character at `p`. Small, so that it is inlined into the loops over characters.
inline Character character_at(const char* p) noexcept {
  const auto byte = static_cast<unsigned char>(*p);
  return byte < 0x80 ? Character{kAsciiClasses[byte], 1} : wide_character_at(p);
}

inline bool is_newline(char c) noexcept { return c == '\r' || c == '\n'; }
inline bool is_ascii_letter(char c) noexcept { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
inline bool is_ascii_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// The end of the run of characters of `set` at `p`.
inline const char* skip(const char* p, const char* end, CharSet set) noexcept {
  while (p < end) {
    const Character c = character_at(p);
    if (!c.in(set)) break;
    p += c.length;
  }
  return p;
}

/// The same for at most `limit` characters.
inline const char* skip(const char* p, const char* end, CharSet set, std::size_t limit) noexcept {
  for (; p < end && limit > 0; --limit) {
    const Character c = character_at(p);
    if (!c.in(set)) break;
    p += c.length;
  }
  return p;
}

}  // namespace cria
