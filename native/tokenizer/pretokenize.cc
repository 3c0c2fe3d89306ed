#include "tokenizer/pretokenize.h"

#include <array>

#include "tokenizer/unicode.h"

namespace cria {
namespace {

constexpr std::array<CharClass, 128> make_ascii_classes() {
  std::array<CharClass, 128> classes{};
  for (int c = 'A'; c <= 'Z'; ++c) classes[c] = classes[c + 32] = CharClass::letter;
  for (int c = '0'; c <= '9'; ++c) classes[c] = CharClass::number;
  for (int c = '\t'; c <= '\r'; ++c) classes[c] = CharClass::space;
  classes[' '] = CharClass::space;
  return classes;
}
constexpr std::array<CharClass, 128> kAsciiClasses = make_ascii_classes();

struct Char {
  CharClass cls;
  std::uint32_t length;
};

inline Char char_at(const char* p) noexcept {
  const auto byte = static_cast<unsigned char>(*p);
  if (byte < 0x80) return {kAsciiClasses[byte], 1};
  return {class_of(utf8_code_point(p)), utf8_length(*p)};
}

inline bool is_newline(char c) noexcept { return c == '\r' || c == '\n'; }

/// Skips at most `limit` characters of class `cls`.
inline const char* skip(const char* p, const char* end, CharClass cls,
                        std::size_t limit = SIZE_MAX) noexcept {
  for (; p < end && limit > 0; --limit) {
    const Char c = char_at(p);
    if (c.cls != cls) break;
    p += c.length;
  }
  return p;
}

/// The end of a match of (?i:'s|'t|'re|'ve|'m|'ll|'d) at the apostrophe `p`, or `p` without a match. Under
/// Unicode's simple case folding the long s (U+017F) equals s; the pattern's other letters have no such
/// equivalent outside ASCII.
const char* contraction_end(const char* p, const char* end) noexcept {
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

/// The end of a match of \s*[\r\n]+|\s+(?!\S)|\s+ : the last line break in the run of white space. Without a
/// line break, the whole run, less its last character when text follows (that character begins the next
/// piece); but at least one character.
const char* space_end(const char* p, const char* end) noexcept {
  const char* after_newline = nullptr;
  const char* last = p;
  const char* q = p;
  while (q < end) {
    const Char c = char_at(q);
    if (c.cls != CharClass::space) break;
    last = q;
    if (is_newline(*q)) after_newline = q + 1;
    q += c.length;
  }
  if (after_newline) return after_newline;
  return q < end && last > p ? last : q;
}

}  // namespace

bool is_llama3_splitter(std::string_view name) noexcept {
  return name == "llama-bpe" || name == "llama3" || name == "llama-v3";
}

const char* llama3_piece_end(const char* p, const char* end) noexcept {
  const Char first = char_at(p);
  const char* next = p + first.length;
  if (first.cls == CharClass::letter) return skip(next, end, CharClass::letter);
  if (first.cls == CharClass::number) return skip(next, end, CharClass::number, 2);
  if (*p == '\'') {
    const char* contraction = contraction_end(p, end);
    if (contraction > p) return contraction;
  }
  bool symbols = first.cls == CharClass::other;
  if (!is_newline(*p) && next < end) {
    const Char second = char_at(next);
    // A character that is neither a line break nor a number may begin a run of letters; a space may begin a
    // run of symbols.
    if (second.cls == CharClass::letter) return skip(next + second.length, end, CharClass::letter);
    symbols = symbols || (*p == ' ' && second.cls == CharClass::other);
  }
  if (!symbols) return space_end(p, end);
  next = skip(next, end, CharClass::other);
  while (next < end && is_newline(*next)) ++next;
  return next;
}

}  // namespace cria
