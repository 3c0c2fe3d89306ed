// A Hugging Face folder as a model: config.json, weights (model.safetensors, else
// pytorch_model.bin, or shards named by an index of either), generation_config.json, chat templates.
#pragma once

#include <memory>
#include <string>

#include "io/assembled_source.h"
#include "io/file.h"

namespace cria {

/// `folder` without a slash at its end. `open` opens files in it, with File::open's errors. The tokenizer's
/// files are not read. Errors: ERR_FILE_NOT_FOUND (no config.json, no weights, a shard missing),
/// ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE, ERR_IO; ERR_INVALID_MODEL (tensors that are missing, or contradict
/// config.json); ERR_UNSUPPORTED_MODEL (another architecture, quantization, scaling of RoPE or type, named).
std::unique_ptr<AssembledSource> open_hf_folder(const std::string& folder, const FileOpener& open);

}  // namespace cria
