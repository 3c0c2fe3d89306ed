// The one exception type of the native code. Codes are stable: they are what JavaScript sees as
// `CriaError.code`.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cria {

enum class ErrorCode {
  invalid_argument,    // ERR_INVALID_ARGUMENT: a value the caller passed is of the wrong type or out of range
  file_not_found,      // ERR_FILE_NOT_FOUND
  io,                  // ERR_IO: the operating system refused to open, read, write or map a file
  invalid_file,        // ERR_INVALID_FILE: the bytes contradict the format
  unsupported_file,    // ERR_UNSUPPORTED_FILE: a well-formed file of an unknown version, byte order or type
  state_mismatch,      // ERR_STATE_MISMATCH: a well-formed KV state, but of another model, KV type or layout
  unsupported_model,   // ERR_UNSUPPORTED_MODEL: an architecture or a variant that cria does not run
  invalid_model,       // ERR_INVALID_MODEL: metadata and tensors contradict each other
  out_of_memory,       // ERR_OUT_OF_MEMORY
  prompt_too_long,     // ERR_PROMPT_TOO_LONG
  context_full,        // ERR_CONTEXT_FULL: a generation came to the end of the context and was to fail then
  queue_full,          // ERR_QUEUE_FULL
  timeout,             // ERR_TIMEOUT
  aborted,             // ERR_ABORTED: cancelled by the caller
  disposed,            // ERR_DISPOSED: the model was disposed
  unsupported_device,  // ERR_UNSUPPORTED_DEVICE
  device_lost,         // ERR_DEVICE_LOST: a device failed for good; details.restart says what helps
  internal,            // ERR_INTERNAL: a bug in cria
};

/// The stable spelling, e.g. "ERR_INVALID_FILE".
std::string_view error_code_name(ErrorCode code) noexcept;

/// A named fact of an error: what was expected, what was found, where. Shown to JavaScript as
/// `error.details`.
using ErrorDetail = std::pair<std::string, std::variant<double, std::string>>;

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

}  // namespace cria
