// Expressions that match only some of the text: a matcher's `match(p, end)` is the end of the match at `p`,
// or `p` without one. Isolated<Matcher> turns it into pieces: each match, and each stretch between two
// matches. A failing match takes constant time, so that no text is quadratic.
#pragma once

#include <algorithm>
#include <iterator>

#include "tokenizer/character.h"
#include "tokenizer/split_words.h"

namespace cria {

template <class Matcher>
struct Isolated {
  static const char* next(const char* p, const char* end) noexcept {
    if (const char* match = Matcher::match(p, end); match > p) return match;
    do {
      p += utf8_length(*p);
    } while (p < end && Matcher::match(p, end) == p);
    return p;
  }
};

// Sets of characters: `has(p, c)` for the character `c` at `p`.

template <CharSet classes>
struct ClassSet {
  static bool has(const char*, Character c) noexcept { return c.in(classes); }
};

struct CodePointRange {
  std::uint32_t first, last;
};
/// `ranges` ascend.
template <const auto& ranges>
struct RangeSet {
  static bool has(const char* p, Character) noexcept {
    const std::uint32_t code_point = utf8_code_point(p);
    const auto* range = std::lower_bound(std::begin(ranges), std::end(ranges), code_point,
                                         [](const CodePointRange& r, std::uint32_t c) { return r.last < c; });
    return range != std::end(ranges) && range->first <= code_point;
  }
};

/// [set]{1,limit}; a limit of 0 is none.
template <class Set, std::size_t limit = 0>
struct Run {
  static const char* match(const char* p, const char* end) noexcept {
    for (std::size_t n = 0; p < end && (limit == 0 || n < limit); ++n) {
      const Character c = character_at(p);
      if (!Set::has(p, c)) break;
      p += c.length;
    }
    return p;
  }
};

/// \s?[set]+
template <class Set>
struct SpacedRun {
  static const char* match(const char* p, const char* end) noexcept {
    const Character first = character_at(p);
    if (first.in(kSpaces)) {
      const char* after = p + first.length;
      if (const char* match = Run<Set>::match(after, end); match > after) return match;
    }
    return Run<Set>::match(p, end);
  }
};

/// [0-9][0-9][0-9]
struct DigitTriple {
  static const char* match(const char* p, const char* end) noexcept {
    const bool found = end - p >= 3 && is_ascii_digit(p[0]) && is_ascii_digit(p[1]) && is_ascii_digit(p[2]);
    return found ? p + 3 : p;
  }
};

/// Falcon's symbols: \p{P} and eight or nine characters of \p{S}.
template <bool backtick>
struct FalconSymbols {
  static bool has(const char* p, Character c) noexcept {
    if (c.in(kPunctuation)) return true;
    switch (*p) {
      case '$':
      case '+':
      case '<':
      case '=':
      case '>':
      case '^':
      case '~':
      case '|': return true;
      case '`': return backtick;
      default: return false;
    }
  }
};

/// Digits in GPT-2's byte alphabet, in which Falcon's pipeline looks for them: the bytes of 0 to 9 and those
/// written as the superscripts and fractions of Latin-1 (they may be parts of characters).
struct ByteAlphabetDigits {
  static bool is_digit(char c) noexcept {
    const auto byte = static_cast<unsigned char>(c);
    return is_ascii_digit(c) || byte == 0xb2 || byte == 0xb3 || byte == 0xb9 || byte == 0xbc ||
           byte == 0xbd || byte == 0xbe;
  }
  static const char* next(const char* p, const char* end) noexcept {
    const bool digits = is_digit(*p);
    do ++p;
    while (p < end && is_digit(*p) == digits);
    return p;
  }
};
/// The same for [0-9][0-9][0-9]: pieces may begin within a character.
struct ByteAlphabetTriples {
  static const char* next(const char* p, const char* end) noexcept {
    if (const char* match = DigitTriple::match(p, end); match > p) return match;
    do ++p;
    while (p < end && DigitTriple::match(p, end) == p);
    return p;
  }
};

/// \s+$ where no line break is left in the text.
struct TrailingSpace {
  template <class Take>
  static void split(const char* p, const char* end, Take&& take) {
    const char* begin = end;
    while (begin > p) {
      const char* before = begin - 1;
      while ((*before & 0xc0) == 0x80) --before;
      if (!character_at(before).in(kSpaces)) break;
      begin = before;
    }
    if (begin > p) take(p, begin);
    if (begin < end) take(begin, end);
  }
};

/// (?=(\d{3})+(?!\d)): cuts every run of digits into threes, counted from its end.
struct GroupedDigits {
  template <class Take>
  static void split(const char* p, const char* end, Take&& take) {
    constexpr CharSet kDigits = char_set(CharClass::digit);
    const char* begin = p;  // of the piece
    while (p < end) {
      std::size_t digits = 0;
      for (const char* q = p; q < end; ++digits) {
        const Character c = character_at(q);
        if (!c.in(kDigits)) break;
        q += c.length;
      }
      for (; digits > 0; --digits, p += utf8_length(*p)) {
        if (digits % 3 != 0 || p == begin) continue;
        take(begin, p);
        begin = p;
      }
      if (p < end) p += utf8_length(*p);
    }
    if (begin < end) take(begin, end);
  }
};

/// BLOOM's and Viking's ` ?[^(\s|.,!?…。，、।۔،)]+`, in which the parentheses and the bar stand for
/// themselves.
struct BloomWord {
  static bool ends_word(const char* p, Character c) noexcept {
    if (c.in(kSpaces)) return true;
    switch (utf8_code_point(p)) {
      case '(':
      case '|':
      case '.':
      case ',':
      case '!':
      case '?':
      case ')':
      case 0x2026:
      case 0x3002:
      case 0xff0c:
      case 0x3001:
      case 0x0964:
      case 0x06d4:
      case 0x060c: return true;
      default: return false;
    }
  }
  static const char* match(const char* p, const char* end) noexcept {
    const char* const word = *p == ' ' ? p + 1 : p;
    const char* q = word;
    while (q < end) {
      const Character c = character_at(q);
      if (ends_word(q, c)) break;
      q += c.length;
    }
    return q > word ? q : p;
  }
};

/// DeepSeek V3:
///   [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
///   ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
struct DeepSeekWords {
  static const char* match(const char* p, const char* end) noexcept {
    constexpr CharSet kWord = kLetters | kMarks, kSymbol = kPunctuation | kSymbols;
    const Character first = character_at(p);
    const char* after = p + first.length;
    if (first.in(kSymbol)) {
      const char* q = after;
      if (first.length == 1) {
        while (q < end && is_ascii_letter(*q)) ++q;
        if (q > after) return q;
      }
      return skip_newlines(skip(after, end, kSymbol), end);
    }
    if (first.in(kLetters)) return skip(after, end, kWord);
    if (!is_newline(*p)) {
      const char* q = skip(after, end, kWord);
      if (q > after || first.in(kMarks)) return q;
      if (*p == ' ' && (q = skip(after, end, kSymbol)) > after) return skip_newlines(q, end);
    }
    return first.in(kSpaces) ? space_end(p, end) : p;
  }
};

}  // namespace cria
