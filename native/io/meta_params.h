// params.json of Meta's release files -> GGUF metadata. Sources: Meta, llama/model.py (ModelArgs,
// FeedForward), llama_models/llama3/args.py and model.py (apply_scaling).
#pragma once

#include <cstdint>

#include "core/json.h"
#include "io/assembled_source.h"

namespace cria {

struct MetaParams {
  std::uint64_t dim = 0;
  std::uint64_t n_layers = 0;
};

/// Writes the metadata into `source`, with the factors of RoPE. A vocab_size
/// of -1 is left to the embedding. Errors: ERR_INVALID_FILE, ERR_UNSUPPORTED_MODEL (parameters of
/// other models).
MetaParams read_meta_params(const JsonValue& params, AssembledSource* source);

}  // namespace cria
