#include "io/file_error.h"

#include <sys/stat.h>

#include <charconv>
#include <system_error>

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

void throw_os_error(ErrorCode code, const std::string& path, const std::string& what, int error) {
  throw Error(code, path + ": " + what + ": " + std::generic_category().message(error),
              {{"path", path}, {"errno", static_cast<double>(error)}});
}

void throw_not_regular(const std::string& path, std::uint32_t mode) {
  const char* found = "a device";
  if (S_ISDIR(mode)) found = "a directory";
  if (S_ISFIFO(mode)) found = "a pipe";
  if (S_ISSOCK(mode)) found = "a socket";
  throw Error(ErrorCode::io, path + ": expected a regular file, found " + found,
              {{"path", path}, {"expected", "a regular file"}, {"found", found}});
}

void check_path(const std::string& path) {
  if (path.find('\0') != std::string::npos)
    throw Error(ErrorCode::invalid_argument, "a path holds a NUL byte: " + quote(path));
}

}  // namespace cria
