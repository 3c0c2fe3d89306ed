// The rotary position embedding (RoPE): base, rotated dimensions and scaling, folded into one table of
// inverse frequencies.
#pragma once

#include "io/model_source.h"
#include "model/config.h"

namespace cria {

/// Sets the rope_* members; head_dim must be set.
void read_rope(const ModelSource& file, ModelConfig* config);

}  // namespace cria
