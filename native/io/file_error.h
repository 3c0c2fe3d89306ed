// Words for errors about untrusted bytes: what a message may quote, and numbers that survive JavaScript.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace cria {

/// `text` in double quotes, fit for a message: bytes that are not printable ASCII as \xNN, long texts cut.
std::string quote(std::string_view text);

/// A number for a message: the shortest decimal that reads back as the same value, whatever the locale.
std::string number_text(double value);

/// A number as an error detail: a double while that is exact, else its decimal digits.
std::variant<double, std::string> number_detail(std::uint64_t value);

}  // namespace cria
