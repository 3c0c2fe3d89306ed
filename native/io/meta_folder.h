// A folder of Meta's release files as a model: params.json and consolidated.00.pth, or one such file for each
// model-parallel shard. Sources: Meta, llama/model.py and llama/generation.py; fairscale,
// nn/model_parallel/layers.py, for the shards.
#pragma once

#include <memory>
#include <string>

#include "io/assembled_source.h"
#include "io/file.h"

namespace cria {

/// `folder` without a slash at its end. `open` opens files in it, with File::open's errors. The tokenizer's
/// file is not read. Errors: ERR_FILE_NOT_FOUND (no params.json or consolidated.00.pth), ERR_INVALID_FILE,
/// ERR_UNSUPPORTED_FILE, ERR_IO; ERR_INVALID_MODEL (tensors that are missing, differ among the shards or
/// contradict params.json); ERR_UNSUPPORTED_MODEL (tensors or parameters of another model).
std::unique_ptr<AssembledSource> open_meta_folder(const std::string& folder, const FileOpener& open);

}  // namespace cria
