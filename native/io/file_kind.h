// Recognises the format of a file, for errors about files of an unexpected format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace cria {

/// How many leading bytes describe_file_kind() needs.
inline constexpr std::size_t kFileKindBytes = 64;

/// Describes a file by its leading bytes: "a safetensors file", ..., or the bytes themselves where they match
/// no known format.
std::string describe_file_kind(std::span<const std::uint8_t> head, std::uint64_t file_size);

}  // namespace cria
