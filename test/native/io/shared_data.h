// Reference files whose weight types cria may not read yet.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "core/error.h"
#include "io/gguf.h"

namespace cria::test {

/// The file, or none when it was refused for a weight type that cria does not read: with the right code,
/// naming the tensor and its type.
inline std::optional<GgufFile> open_known_types(const std::filesystem::path& path) {
  try {
    return GgufFile::open(path);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unsupported_file);
    const std::string message = error.what();
    CHECK(message.find("tensor \"") != std::string::npos);
    CHECK(message.find("which cria does not read") != std::string::npos);
    return std::nullopt;
  }
}

}  // namespace cria::test
