// The parser of one GGUF file (a whole model or one part of a split), and its limits for untrusted files.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "io/gguf.h"

namespace cria {

// Limits beyond the needs of any real file: the largest vocabularies take about 15 MiB of header, the largest
// models have about 2,000 tensors. They bound the memory and time that a hostile file can cost.
inline constexpr std::uint64_t kMaxGgufHeaderBytes = std::uint64_t{32} << 20;
inline constexpr std::uint64_t kMaxGgufMetadata = 1 << 16;       // key-value pairs
inline constexpr std::uint64_t kMaxGgufTensors = 1 << 16;        // in all parts together
inline constexpr std::uint64_t kMaxGgufArrayElements = 1 << 22;  // in one metadata array
inline constexpr std::uint64_t kMaxGgufAlignment = 1 << 20;

/// Reads the metadata and the tensor descriptions of one file, and checks everything that does not depend on
/// other files.
GgufPart parse_gguf_part(const File& file, std::uint32_t file_index);

/// Opens and checks the other parts where `first`, read from `file`, is part of a split. Returns the parts in
/// order and their files in `files`; `first` alone where it is a whole model.
std::vector<GgufPart> join_gguf_split(std::shared_ptr<const File> file, GgufPart first,
                                      const FileOpener& open_part,
                                      std::vector<std::shared_ptr<const File>>* files);

}  // namespace cria
