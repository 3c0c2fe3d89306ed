// The tensors of a Hugging Face Llama, Mistral or Mixtral -> GGUF's.
#pragma once

#include <vector>

#include "io/assembled_source.h"
#include "io/hf_config.h"
#include "io/hf_quantization.h"
#include "io/stored_tensor.h"

namespace cria {

/// Adds GGUF's tensors in order of use: matrices in their type (FP8 becomes F16), vectors and routers as F32,
/// q and k in RoPE's order of GGUF, the experts of a layer as one. Errors: ERR_INVALID_MODEL for a tensor
/// that is missing, there twice, or at odds with the configuration; ERR_UNSUPPORTED_MODEL for one that is
/// unknown or of an unknown type.
void add_hf_tensors(std::vector<StoredTensor> stored, const HfConfig& config,
                    const HfQuantization& quantization, AssembledSource* source);

}  // namespace cria
