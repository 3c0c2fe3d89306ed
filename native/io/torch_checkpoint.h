// A PyTorch checkpoint (.pth): a ZIP archive with a pickle and one entry for the data of each storage.
// Source: PyTorch, torch/serialization.py, _save and _load.
#pragma once

#include <cstdint>
#include <vector>

#include "io/file.h"
#include "io/stored_tensor.h"

namespace cria {

/// The tensors of a file, in the pickle's order. Each is contiguous, in C order, and within its storage;
/// names are unique. Errors: ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE (a compressed archive, a big-endian one,
/// an opcode or global that does not build tensors, strided tensors), ERR_IO.
std::vector<StoredTensor> read_torch_checkpoint(const File& file, std::uint32_t file_index);

}  // namespace cria
