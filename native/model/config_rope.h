// The rotary position embedding (RoPE): base, rotated dimensions and scaling, folded into one table of
// inverse frequencies and one factor of cosine and sine.
#pragma once

#include "io/model_source.h"
#include "model/config.h"

namespace cria {

/// Sets the rope_* members; head_dim and config->context_length must be set. `context_length` as in
/// read_config().
void read_rope(const ModelSource& file, std::int64_t context_length, ModelConfig* config);

}  // namespace cria
