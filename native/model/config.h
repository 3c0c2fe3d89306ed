// The checked configuration of a Llama: everything the decoder needs besides the weights.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_source.h"

namespace cria {

/// Which dimensions of a head RoPE rotates together.
enum class RopeLayout {
  interleaved,  // (0,1), (2,3), ... : Meta's weights and GGUF's "llama"
  half,         // (0,d/2), (1,d/2+1), ... : Hugging Face's weights
};

struct ModelConfig {
  std::string architecture;  // "llama"
  std::string name;          // general.name, may be empty
  std::uint32_t vocab_size = 0;
  std::uint32_t hidden = 0;
  std::uint32_t n_layers = 0;
  std::uint32_t n_heads = 0;
  std::uint32_t n_kv_heads = 0;      // divides n_heads
  std::uint32_t head_dim = 0;        // even; attention.key_length or hidden / n_heads
  std::uint32_t ffn_hidden = 0;      // of an expert, where there are experts
  std::uint32_t n_experts = 0;       // of each layer; 0: an ordinary FFN
  std::uint32_t n_experts_used = 0;  // by each token; 1 to n_experts
  std::uint32_t context_length = 0;  // tokens that the model was trained for
  float rms_norm_eps = 0;
  RopeLayout rope_layout = RopeLayout::interleaved;
  std::uint32_t rope_dim = 0;         // leading dimensions of a head that are rotated; even, at most head_dim
  double rope_base = 0;               // before any scaling
  std::string rope_scaling;           // "none", "linear", "llama3", "yarn", "longrope"; with a tensor of
                                      // factors "tensor", "linear+tensor", "yarn+tensor": for display
  std::vector<float> rope_inv_freq;   // [rope_dim / 2], with every scaling applied
  double rope_magnitude = 1;          // factor of cosine and sine
  bool tied_output = false;           // no output.weight: the embedding is also the output matrix
  std::vector<std::string> warnings;  // what the file asks for and does not get, one line each
};

/// Reads the configuration of a GGUF that holds a whole model, including its tensors of RoPE factors, and
/// checks that every required tensor exists with the rank, shape and type that the configuration implies.
/// `context_length`, in tokens: what the model will run with, on which the factors of longrope depend; 0:
/// what it was trained for. Errors: ERR_UNSUPPORTED_MODEL for another architecture (named) or an unsupported
/// variant, ERR_INVALID_MODEL for a contradiction.
ModelConfig read_config(const ModelSource& file, std::int64_t context_length = 0);

/// The last part of read_config: checks the tensors against the configuration, and adds to its warnings.
void check_tensors(const ModelSource& file, ModelConfig* config);

}  // namespace cria
