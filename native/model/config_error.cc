#include "model/config_error.h"

#include "io/file_error.h"

namespace cria {

void throw_invalid_key(const ModelSource& file, std::string_view key, const std::string& expected,
                       const std::string& found) {
  throw Error(ErrorCode::invalid_model,
              file.path() + ": metadata key " + quote(key) + ": expected " + expected + ", found " + found,
              {{"path", file.path()}, {"key", std::string(key)}, {"expected", expected}, {"found", found}});
}

void throw_unsupported_key(const ModelSource& file, std::string_view key, const std::string& why,
                           const std::string& found) {
  throw Error(ErrorCode::unsupported_model,
              file.path() + ": metadata key " + quote(key) + " is " + found + ": " + why,
              {{"path", file.path()}, {"key", std::string(key)}, {"found", found}});
}

void throw_invalid_tensor(const ModelSource& file, std::string_view tensor, const std::string& expected,
                          const std::string& found) {
  throw Error(
      ErrorCode::invalid_model,
      file.path() + ": tensor " + quote(tensor) + ": expected " + expected + ", found " + found,
      {{"path", file.path()}, {"tensor", std::string(tensor)}, {"expected", expected}, {"found", found}});
}

void throw_unsupported_tensor(const ModelSource& file, std::string_view tensor, const std::string& why) {
  throw Error(ErrorCode::unsupported_model, file.path() + ": tensor " + quote(tensor) + ": " + why,
              {{"path", file.path()}, {"tensor", std::string(tensor)}});
}

}  // namespace cria
