// config.json of a Hugging Face folder -> GGUF metadata. It reads what transformers wrote before its version
// 5
// (`rope_theta`, `rope_scaling`) and what it writes since (`rope_parameters`), with the same defaults.
// Sources: transformers, models/{llama,mistral,mixtral}/configuration_*.py and modeling_rope_utils.py;
// llama.cpp, convert_hf_to_gguf.py, for the keys.
#pragma once

#include <cstdint>
#include <string>

#include "core/json.h"
#include "io/assembled_source.h"

namespace cria {

/// What the tensors' names and order depend on.
struct HfConfig {
  std::uint64_t n_layers = 0;
  std::uint64_t n_heads = 0;
  std::uint64_t head_dim = 0;
  std::uint64_t n_experts = 0;  // 0: dense
  bool tied = false;            // the embedding is also the output matrix
  bool attention_bias = false;  // q, k, v and o
  bool mlp_bias = false;        // gate, up and down
};

/// Writes the metadata into `source`, with the tensors that hold factors of RoPE. Errors: ERR_INVALID_FILE (a
/// missing value, or one of the wrong type), ERR_INVALID_MODEL (values that contradict each other),
/// ERR_UNSUPPORTED_MODEL (another model type, activation or scaling of RoPE, named).
HfConfig read_hf_config(const JsonValue& config, AssembledSource* source);

/// ERR_UNSUPPORTED_MODEL: "<name>: <value's path> is <found>: <why>".
[[noreturn]] void throw_unsupported_value(const AssembledSource& source, const JsonValue& value,
                                          const std::string& found, const std::string& why);

}  // namespace cria
