#include "core/error.h"

#include <new>
#include <system_error>

namespace cria {
namespace {

// Made at load time and never destroyed: reporting that memory ran out must not need memory. Copies share the
// text.
const Error* const kOutOfMemory =
    new Error(ErrorCode::out_of_memory, "there is not enough memory for this operation");

}  // namespace

std::string_view error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument: return "ERR_INVALID_ARGUMENT";
    case ErrorCode::file_not_found: return "ERR_FILE_NOT_FOUND";
    case ErrorCode::io: return "ERR_IO";
    case ErrorCode::invalid_file: return "ERR_INVALID_FILE";
    case ErrorCode::unsupported_file: return "ERR_UNSUPPORTED_FILE";
    case ErrorCode::state_mismatch: return "ERR_STATE_MISMATCH";
    case ErrorCode::unsupported_model: return "ERR_UNSUPPORTED_MODEL";
    case ErrorCode::invalid_model: return "ERR_INVALID_MODEL";
    case ErrorCode::out_of_memory: return "ERR_OUT_OF_MEMORY";
    case ErrorCode::prompt_too_long: return "ERR_PROMPT_TOO_LONG";
    case ErrorCode::context_full: return "ERR_CONTEXT_FULL";
    case ErrorCode::queue_full: return "ERR_QUEUE_FULL";
    case ErrorCode::timeout: return "ERR_TIMEOUT";
    case ErrorCode::aborted: return "ERR_ABORTED";
    case ErrorCode::disposed: return "ERR_DISPOSED";
    case ErrorCode::unsupported_device: return "ERR_UNSUPPORTED_DEVICE";
    case ErrorCode::device_lost: return "ERR_DEVICE_LOST";
    case ErrorCode::internal: return "ERR_INTERNAL";
  }
  return "ERR_INTERNAL";
}

Error current_error() noexcept {
  try {
    try {
      throw;
    } catch (const Error& e) {
      return e;
    } catch (const std::bad_alloc&) {
      return *kOutOfMemory;
    } catch (const std::system_error& e) {
      return {ErrorCode::out_of_memory, std::string("the system refused a resource: ") + e.what()};
    } catch (const std::exception& e) {
      return {ErrorCode::internal, e.what()};
    } catch (...) {
      return {ErrorCode::internal, "an unknown exception"};
    }
  } catch (...) {  // building or copying the Error took memory
    return *kOutOfMemory;
  }
}

}  // namespace cria
