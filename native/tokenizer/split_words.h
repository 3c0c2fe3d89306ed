// The large expressions of byte-level vocabularies, as hand-written matchers: each cuts text into words,
// numbers, symbols and white space, and every character begins a match. A matcher's `next(p, end)` is the end
// of the piece that begins at `p` (`p < end`, well-formed UTF-8); `end` is the end of the text.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenizer/character.h"

namespace cria {

/// The end of a match of (?i:'s|'t|'re|'ve|'m|'ll|'d) at `p`, or `p` without a match. Under Unicode's simple
/// case folding the long s (U+017F) equals s; the other letters have no such equivalent outside ASCII.
inline const char* folded_contraction_end(const char* p, const char* end) noexcept {
  if (p == end || *p != '\'') return p;
  const auto lower = [&](std::ptrdiff_t i) {
    return end - p > i ? static_cast<char>(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]) : '\0';
  };
  const char first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
  if (first == 'l' && second == 'l') return p + 3;
  if (first == '\xC5' && second == '\xBF') return p + 3;
  return p;
}

/// The same for 's|'t|'re|'ve|'m|'ll|'d.
inline const char* contraction_end(const char* p, const char* end) noexcept {
  if (p == end || *p != '\'') return p;
  const char first = end - p > 1 ? p[1] : '\0', second = end - p > 2 ? p[2] : '\0';
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return p + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return p + 3;
  if (first == 'l' && second == 'l') return p + 3;
  return p;
}

/// The end of a match of \s+(?!\S)|\s+ : the run of white space, less its last character when text follows
/// (that character begins the next piece); but at least one character.
inline const char* plain_space_end(const char* p, const char* end) noexcept {
  const char* last = p;
  const char* q = p;
  while (q < end) {
    const Character c = character_at(q);
    if (!c.in(kSpaces)) break;
    last = q;
    q += c.length;
  }
  return q < end && last > p ? last : q;
}

/// The end of a match of \s*[\r\n]+|\s+(?!\S)|\s+ : the last line break in the run of white space, or without
/// one as above.
inline const char* space_end(const char* p, const char* end) noexcept {
  const char* after_newline = nullptr;
  const char* last = p;
  const char* q = p;
  while (q < end) {
    const Character c = character_at(q);
    if (!c.in(kSpaces)) break;
    last = q;
    if (is_newline(*q)) after_newline = q + 1;
    q += c.length;
  }
  if (after_newline) return after_newline;
  return q < end && last > p ? last : q;
}

inline const char* skip_newlines(const char* p, const char* end) noexcept {
  while (p < end && is_newline(*p)) ++p;
  return p;
}

/// OpenAI's GPT-2 (encoder.py):
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
struct Gpt2Words {
  static const char* next(const char* p, const char* end) noexcept {
    constexpr CharSet kOther = static_cast<CharSet>(~(kLetters | kNumbers | kSpaces));
    Character first = character_at(p);
    if (*p == '\'') {
      if (const char* contraction = contraction_end(p, end); contraction > p) return contraction;
    }
    const char* q = p;
    if (*p == ' ' && p + 1 < end) {
      first = character_at(++q);
    }
    if (first.in(kSpaces)) return plain_space_end(p, end);
    const CharSet run = first.in(kLetters) ? kLetters : first.in(kNumbers) ? kNumbers : kOther;
    return skip(q + first.length, end, run);
  }
};

/// The family of tiktoken's cl100k_base:
///   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
///   ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
struct WordOptions {
  std::size_t max_numbers = 3;       // \p{N}{1,max_numbers}
  CharSet letters = kLetters;        // in the second alternative; the symbols are all but these
  bool contractions = true;          // the first alternative
  bool newlines_end_symbols = true;  // [\r\n]* after symbols
};
template <WordOptions options>
struct Words {
  static const char* next(const char* p, const char* end) noexcept {
    constexpr CharSet kOther = static_cast<CharSet>(~(options.letters | kNumbers | kSpaces));
    const Character first = character_at(p);
    const char* after = p + first.length;
    if (first.in(kLetters)) return skip(after, end, options.letters);
    if (first.in(kNumbers)) {
      if constexpr (options.max_numbers == 1)
        return after;
      else
        return skip(after, end, kNumbers, options.max_numbers - 1);
    }
    if constexpr (options.contractions) {
      if (const char* contraction = folded_contraction_end(p, end); contraction > p) return contraction;
    }
    bool symbols = first.in(kOther);
    if (!is_newline(*p) && after < end) {
      const Character second = character_at(after);
      // A character that is neither a line break nor a number may begin a run of letters; a space may begin a
      // run of symbols.
      if (second.in(options.letters)) return skip(after + second.length, end, options.letters);
      symbols = symbols || (*p == ' ' && second.in(kOther));
    }
    if constexpr ((options.letters & kMarks) != 0) {
      if (first.in(kMarks)) return after;
    }
    if (!symbols) return space_end(p, end);
    after = skip(after, end, kOther);
    return options.newlines_end_symbols ? skip_newlines(after, end) : after;
  }
};

/// Words that begin with capitals, as in tiktoken's o200k_base and Mistral's tekken:
///   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
///   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
///   \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
struct CasedWordOptions {
  std::size_t max_numbers = 3;
  bool contractions = true;
};
template <CasedWordOptions options>
struct CasedWords {
  static constexpr CharSet kCaseless = char_set(CharClass::other_letter, CharClass::mark);
  static constexpr CharSet kUpper = kCaseless | char_set(CharClass::upper);
  static constexpr CharSet kLower = kCaseless | char_set(CharClass::lower);

  static const char* next(const char* p, const char* end) noexcept {
    constexpr CharSet kOther = static_cast<CharSet>(~(kLetters | kNumbers | kSpaces));
    const Character first = character_at(p);
    const char* after = p + first.length;
    if (first.in(kNumbers)) return skip(after, end, kNumbers, options.max_numbers - 1);
    if (const char* word = word_end(p, after, first, end)) {
      return options.contractions ? folded_contraction_end(word, end) : word;
    }
    const char* symbols = *p == ' ' ? after : p;
    const char* q = skip(symbols, end, kOther);
    if (q == symbols) return space_end(p, end);
    while (q < end && (is_newline(*q) || *q == '/')) ++q;
    return q;
  }

 private:
  /// The first two alternatives, or null. A prefix is tried first; a mark may be one and may also begin a
  /// word.
  static const char* word_end(const char* p, const char* after, Character first, const char* end) noexcept {
    if (first.in(kLetters)) {
      const char* lower = ends_lower(p, end);
      return lower ? lower : skip(p, end, kUpper);
    }
    if (is_newline(*p)) return nullptr;
    if (const char* lower = ends_lower(after, end)) return lower;
    if (first.in(kMarks)) return ends_lower(p, end);
    const char* upper = skip(after, end, kUpper);
    return upper > after ? upper : nullptr;
  }

  /// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ at `p`, or null. When no lower-case letter
  /// follows the first run, the run gives back characters down to its last caseless one.
  static const char* ends_lower(const char* p, const char* end) noexcept {
    const char* after_caseless = nullptr;
    while (p < end) {
      const Character c = character_at(p);
      if (!c.in(kUpper)) {
        if (c.in(kLower)) return skip(p + c.length, end, kLower);
        break;
      }
      p += c.length;
      if (c.in(kCaseless)) after_caseless = p;
    }
    return after_caseless;
  }
};

}  // namespace cria
