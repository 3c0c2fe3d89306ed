// Recognises what a file is when it is not what was expected, so that the error can say so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cria {

/// How many leading bytes describe_file_kind wants to see.
inline constexpr std::size_t kFileKindBytes = 64;

/// A few words for what the leading bytes look like ("a safetensors file", ...), else the bytes themselves.
std::string describe_file_kind(std::span<const std::uint8_t> head, std::uint64_t file_size);

}  // namespace cria
