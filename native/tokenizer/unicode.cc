#include "tokenizer/unicode.h"

#include <cstring>

#include "tokenizer/character.h"

namespace cria {
namespace {

#include "tokenizer/unicode_classes.inc"

constexpr std::uint64_t kHighBits = 0x8080808080808080;

/// One character of untrusted UTF-8. `complete`: well-formed. Otherwise its `length` bytes are a maximal
/// subpart: ill-formed, or cut off by the end of the text (`truncated`), where more bytes could complete
/// them.
struct Scan {
  std::uint32_t length;
  bool complete;
  bool truncated;
};

/// Unicode, table 3-7, "Well-Formed UTF-8 Byte Sequences": the lead byte bounds the second byte.
Scan scan_character(const unsigned char* p, const unsigned char* end) noexcept {
  const unsigned char lead = *p;
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xc2 || lead > 0xf4) return {1, false, false};
  const std::uint32_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned char low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  for (std::uint32_t i = 1; i < length; ++i) {
    if (p + i == end) return {i, false, true};
    if (p[i] < low || p[i] > high) return {i, false, false};
    low = 0x80;
    high = 0xbf;
  }
  return {length, true, false};
}

const unsigned char* skip_ascii(const unsigned char* p, const unsigned char* end) noexcept {
  while (end - p >= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    if (word & kHighBits) break;
    p += 8;
  }
  while (p < end && *p < 0x80) ++p;
  return p;
}

}  // namespace

CharClass class_of(std::uint32_t code_point) noexcept {
  if (code_point >= kClassifiedCodePoints) return CharClass::other;
  const std::uint8_t* block = kClassBlocks[kClassBlockOf[code_point >> 8]];
  const std::uint32_t in_block = code_point & 0xff;
  return static_cast<CharClass>(block[in_block >> 1] >> ((in_block & 1) * 4) & 15);
}

Character wide_character_at(const char* p) noexcept {
  return {char_set(class_of(utf8_code_point(p))), utf8_length(*p)};
}

std::string_view unicode_version() noexcept { return kUnicodeVersion; }

bool is_well_formed_utf8(std::string_view text) noexcept {
  auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const unsigned char* end = p + text.size();
  while ((p = skip_ascii(p, end)) < end) {
    const Scan scan = scan_character(p, end);
    if (!scan.complete) return false;
    p += scan.length;
  }
  return true;
}

std::size_t append_well_formed(std::string_view bytes, std::string& out) {
  auto* const begin = reinterpret_cast<const unsigned char*>(bytes.data());
  const unsigned char* const end = begin + bytes.size();
  const unsigned char* p = begin;
  const unsigned char* copied = begin;  // everything before it is in `out`
  const auto copy_to = [&](const unsigned char* until) {
    out.append(bytes.data() + (copied - begin), static_cast<std::size_t>(until - copied));
  };
  while ((p = skip_ascii(p, end)) < end) {
    const Scan scan = scan_character(p, end);
    if (!scan.complete) {
      copy_to(p);
      if (scan.truncated) return static_cast<std::size_t>(end - p);
      out += kReplacementCharacter;
      copied = p + scan.length;
    }
    p += scan.length;
  }
  copy_to(end);
  return 0;
}

std::string to_well_formed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (append_well_formed(bytes, out) > 0) out += kReplacementCharacter;
  return out;
}

}  // namespace cria
