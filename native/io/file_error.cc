#include "io/file_error.h"

#include <charconv>

namespace cria {

std::string quote(std::string_view text) {
  constexpr std::size_t kMaxQuoted = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kMaxQuoted)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += text.size() > kMaxQuoted ? "...\"" : "\"";
  return out;
}

std::string number_text(double value) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  return error == std::errc() ? std::string(digits, end) : "a number";
}

std::variant<double, std::string> number_detail(std::uint64_t value) {
  constexpr std::uint64_t kExactInDouble = std::uint64_t{1} << 53;
  if (value <= kExactInDouble) return static_cast<double>(value);
  return std::to_string(value);
}

}  // namespace cria
