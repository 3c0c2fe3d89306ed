// Reader of safetensors headers: untrusted bytes -> bounds-checked tensor descriptions. Source: the format's
// description (github.com/huggingface/safetensors, README.md, "Format"): a 64-bit length, a JSON header of
// that many bytes, and the tensors' data, little endian and in C order.
#pragma once

#include <cstdint>
#include <vector>

#include "io/file.h"
#include "io/stored_tensor.h"

namespace cria {

/// The format's own limit.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
/// As for GGUF: in all files of a model together.
inline constexpr std::uint64_t kMaxStoredTensors = 1 << 18;

/// The tensors of a file, in order of their data. Checked as the format demands: names are unique, each shape
/// fits its bytes, and the tensors cover the data without gaps or overlaps. Errors: ERR_INVALID_FILE,
/// ERR_UNSUPPORTED_FILE (an unknown type, or too large), ERR_IO.
std::vector<StoredTensor> read_safetensors(const File& file, std::uint32_t file_index);

}  // namespace cria
