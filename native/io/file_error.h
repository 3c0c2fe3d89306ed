// Text for errors about files: quoted bytes, numbers, and the reasons of the operating system.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace cria {

/// `text` in double quotes, safe to print: bytes outside printable ASCII as \xNN, long texts cut short.
std::string quote(std::string_view text);

/// The shortest decimal that reads back as the same value, in any locale.
std::string number_text(double value);

/// 16 lower-case hexadecimal digits.
std::string hex(std::uint64_t value);

/// Throws `code` with the path, `what` (e.g. "cannot open the file") and the text of the errno `error`.
[[noreturn]] void throw_os_error(ErrorCode code, const std::string& path, const std::string& what, int error);

/// Throws ERR_IO: expected a regular file at the path, found what `mode` (stat's st_mode) says.
[[noreturn]] void throw_not_regular(const std::string& path, std::uint32_t mode);

/// Throws ERR_INVALID_ARGUMENT for a path with a NUL byte, where the operating system would cut it off.
void check_path(const std::string& path);

}  // namespace cria
