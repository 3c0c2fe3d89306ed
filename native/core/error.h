// The one exception type of the native code. Its codes are stable: JavaScript sees them as `CriaError.code`.
#pragma once

#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cria {

enum class ErrorCode {
  /// ERR_INVALID_ARGUMENT: a value passed by the caller has the wrong type or is out of range.
  invalid_argument,
  /// ERR_FILE_NOT_FOUND
  file_not_found,
  /// ERR_IO: the operating system refused to open, read, write or map a file.
  io,
  /// ERR_INVALID_FILE: the bytes contradict the format.
  invalid_file,
  /// ERR_UNSUPPORTED_FILE: a well-formed file of an unknown version, byte order or type.
  unsupported_file,
  /// ERR_STATE_MISMATCH: a well-formed KV state, but of another model, KV type or page layout.
  state_mismatch,
  /// ERR_UNSUPPORTED_MODEL: an architecture, or a variant of one, that cria does not run.
  unsupported_model,
  /// ERR_INVALID_MODEL: the metadata and the tensors contradict each other.
  invalid_model,
  /// ERR_OUT_OF_MEMORY: the system refused memory, or another resource such as a thread.
  out_of_memory,
  /// ERR_PROMPT_TOO_LONG
  prompt_too_long,
  /// ERR_CONTEXT_FULL: a generation filled its context and had asked to fail in that case.
  context_full,
  /// ERR_QUEUE_FULL
  queue_full,
  /// ERR_TIMEOUT
  timeout,
  /// ERR_ABORTED: cancelled by the caller.
  aborted,
  /// ERR_DISPOSED: the model or the tensor was disposed.
  disposed,
  /// ERR_UNSUPPORTED_DEVICE
  unsupported_device,
  /// ERR_DEVICE_LOST: a device failed for good; details.restart says which restart helps.
  device_lost,
  /// ERR_INTERNAL: a bug in cria.
  internal,
};

/// The stable spelling, e.g. "ERR_INVALID_FILE".
std::string_view error_code_name(ErrorCode code) noexcept;

/// Whether a double holds `value` exactly: integers up to 2^53 in magnitude.
template <std::integral Integer>
constexpr bool is_exact_in_double(Integer value) noexcept {
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  return std::cmp_less_equal(value, kExact) && std::cmp_greater_equal(value, -kExact);
}

/// A number or a text. An integer that a double would round becomes the text of its decimal digits, so that
/// neither C++ nor JavaScript ever shows a wrong count.
class ErrorValue {
 public:
  template <std::integral Integer>
    requires(!std::same_as<Integer, bool>)
  ErrorValue(Integer value) {
    if (is_exact_in_double(value))
      value_ = static_cast<double>(value);
    else
      value_ = std::to_string(value);
  }
  ErrorValue(double value) : value_(value) {}
  ErrorValue(std::string text) : value_(std::move(text)) {}
  ErrorValue(std::string_view text) : value_(std::string(text)) {}
  ErrorValue(const char* text) : value_(std::string(text)) {}

  bool is_number() const noexcept { return std::holds_alternative<double>(value_); }
  /// Throws std::bad_variant_access for a text.
  double number() const { return std::get<double>(value_); }
  /// Throws std::bad_variant_access for a number.
  const std::string& text() const { return std::get<std::string>(value_); }

  bool operator==(const ErrorValue&) const = default;

 private:
  std::variant<double, std::string> value_;
};

/// A named fact of an error: what was expected, what was found, where. JavaScript sees it in `error.details`.
struct ErrorDetail {
  std::string name;
  ErrorValue value;

  bool operator==(const ErrorDetail&) const = default;
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::vector<ErrorDetail> details = {})
      : std::runtime_error(message), code_(code), details_(std::move(details)) {}

  ErrorCode code() const noexcept { return code_; }
  const std::vector<ErrorDetail>& details() const noexcept { return details_; }

 private:
  ErrorCode code_;
  std::vector<ErrorDetail> details_;
};

/// The exception being handled, as an Error: std::bad_alloc and std::system_error (a thread, a lock) become
/// ERR_OUT_OF_MEMORY, any other exception ERR_INTERNAL. To be called within a catch block.
Error current_error() noexcept;

}  // namespace cria
