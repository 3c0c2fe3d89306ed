// Words for errors about files: what a message may quote, numbers that survive JavaScript, and what the
// operating system said.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "core/error.h"

namespace cria {

/// `text` in double quotes, fit for a message: bytes that are not printable ASCII as \xNN, long texts cut.
std::string quote(std::string_view text);

/// A number for a message: the shortest decimal that reads back as the same value, whatever the locale.
std::string number_text(double value);

/// A number as an error detail: a double while that is exact, else its decimal digits.
std::variant<double, std::string> number_detail(std::uint64_t value);

/// Throws `code`: path, what could not be done, and the text of `error` (an errno).
[[noreturn]] void throw_os_error(ErrorCode code, const std::string& path, const std::string& what, int error);

/// Throws ERR_IO: a regular file was expected at the path, and `mode` (stat's st_mode) is of something else.
[[noreturn]] void throw_not_regular(const std::string& path, std::uint32_t mode);

/// Throws ERR_INVALID_ARGUMENT for a path with a NUL byte, at which the operating system would cut it off.
void check_path(const std::string& path);

}  // namespace cria
