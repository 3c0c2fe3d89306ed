// UTF-8, and the character classes in the expressions of pre-tokenizers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cria {

/// Unicode's general categories, as far as pre-tokenizers tell them apart. White space is \s (White_Space),
/// which contains all of Z and a few control characters.
enum class CharClass : std::uint8_t {
  other = 0,     // C but for white space
  upper,         // Lu, Lt
  lower,         // Ll
  other_letter,  // Lm, Lo
  mark,          // M
  digit,         // Nd
  other_number,  // Nl, No
  punctuation,   // P
  symbol,        // S
  space,
};

/// A set of classes: bit i stands for class i.
using CharSet = std::uint16_t;

template <class... Classes>
constexpr CharSet char_set(Classes... classes) noexcept {
  return static_cast<CharSet>((0 | ... | (1u << static_cast<unsigned>(classes))));
}
constexpr bool contains(CharSet set, CharClass cls) noexcept {
  return (set >> static_cast<unsigned>(cls) & 1) != 0;
}

/// \p{L}, \p{N}, \s, and each of the others by its name.
inline constexpr CharSet kLetters = char_set(CharClass::upper, CharClass::lower, CharClass::other_letter);
inline constexpr CharSet kMarks = char_set(CharClass::mark);
inline constexpr CharSet kNumbers = char_set(CharClass::digit, CharClass::other_number);
inline constexpr CharSet kPunctuation = char_set(CharClass::punctuation);
inline constexpr CharSet kSymbols = char_set(CharClass::symbol);
inline constexpr CharSet kSpaces = char_set(CharClass::space);

CharClass class_of(std::uint32_t code_point) noexcept;

/// The Unicode version of the class table, e.g. "17.0".
std::string_view unicode_version() noexcept;

/// Bytes of the character with lead byte `lead`, in well-formed text.
inline std::uint32_t utf8_length(char lead) noexcept {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xe0) return 2;
  return byte < 0xf0 ? 3 : 4;
}

/// The character at `p`, in well-formed text.
inline std::uint32_t utf8_code_point(const char* p) noexcept {
  const auto at = [p](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(p[i])); };
  if (at(0) < 0x80) return at(0);
  if (at(0) < 0xe0) return (at(0) & 0x1f) << 6 | (at(1) & 0x3f);
  if (at(0) < 0xf0) return (at(0) & 0x0f) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f);
  return (at(0) & 0x07) << 18 | (at(1) & 0x3f) << 12 | (at(2) & 0x3f) << 6 | (at(3) & 0x3f);
}

bool is_well_formed_utf8(std::string_view text) noexcept;

/// Appends `bytes` to `out` with each maximal ill-formed subpart replaced by one U+FFFD (the WHATWG decoder's
/// rule, Unicode chapter 3.9, "U+FFFD Substitution of Maximal Subparts"). Bytes at the end that begin a
/// character which more bytes could complete are not appended; returns their number (0 to 3).
std::size_t append_well_formed(std::string_view bytes, std::string& out);

/// The same for a whole text: an incomplete character at the end becomes U+FFFD too.
std::string to_well_formed(std::string_view bytes);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace cria
