#include "io/file_error.h"

#include <sys/stat.h>

#include <charconv>
#include <system_error>

namespace cria {
namespace {

constexpr char kHexDigits[] = "0123456789abcdef";

}  // namespace

std::string quote(std::string_view text) {
  constexpr std::size_t kMaxQuoted = 80;
  std::string out = "\"";
  for (const char c : text.substr(0, kMaxQuoted)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      out += "\\x";
      out += kHexDigits[byte >> 4];
      out += kHexDigits[byte & 15];
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

std::string hex(std::uint64_t value) {
  std::string digits;
  for (int shift = 60; shift >= 0; shift -= 4) digits += kHexDigits[value >> shift & 15];
  return digits;
}

void throw_os_error(ErrorCode code, const std::string& path, const std::string& what, int error) {
  throw Error(code, path + ": " + what + ": " + std::generic_category().message(error),
              {{"path", path}, {"errno", error}});
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
    throw Error(ErrorCode::invalid_argument, "expected a path without a NUL byte, found " + quote(path));
}

}  // namespace cria
