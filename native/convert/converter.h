// Writes a model as one GGUF file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "convert/quantized_source.h"
#include "core/cancel.h"

namespace cria {

/// Called from converting threads, one at a time.
using ConvertProgress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

struct ConvertResult {
  std::uint64_t source_bytes = 0;  // of the tensors
  std::uint64_t file_bytes = 0;
  std::map<std::string, std::uint64_t> bytes_by_type;  // weight type -> bytes in the file
};

/// Writes the metadata and tensors of `model` to `path`, which appears whole or not at all; an existing file
/// is replaced, even one that the model is read from. `threads` 0: the usable cores. Memory: some MiB per
/// thread. Errors: those of the model's read(), ERR_IO, ERR_ABORTED.
ConvertResult write_model(const ModelSource& model, const std::string& path, int threads,
                          const ConvertProgress& progress, const CancelFlag& cancel);

}  // namespace cria
