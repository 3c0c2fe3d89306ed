// The checked shape of a Llama: everything the decoder needs to know that is not a weight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/gguf.h"

namespace cria {

/// Order of the two halves of a rotated pair inside a head.
enum class RopeLayout {
  interleaved,  // (0,1), (2,3), ... : Meta's weights and GGUF's "llama"
  half,         // (0,d/2), (1,d/2+1), ... : Hugging Face's weights
};

struct ModelConfig {
  std::string architecture;  // "llama"
  std::string name;          // general.name, may be empty
  std::uint32_t vocab_size;
  std::uint32_t hidden;
  std::uint32_t n_layers;
  std::uint32_t n_heads;
  std::uint32_t n_kv_heads;  // divides n_heads
  std::uint32_t head_dim;    // even; attention.key_length or hidden / n_heads
  std::uint32_t ffn_hidden;
  std::uint32_t context_length;
  float rms_norm_eps;
  RopeLayout rope_layout;
  std::uint32_t rope_dim;            // leading dimensions of a head that are rotated, even, <= head_dim
  std::vector<float> rope_inv_freq;  // [rope_dim / 2], every scaling (linear, Llama 3.1) already applied
  bool tied_output;                  // no output.weight: the embedding serves as the output matrix
};

/// Reads and checks the configuration of a GGUF that holds a whole model. Checks every required tensor's presence,
/// rank, shape and type against the configuration. `rope_factors` holds the values of a `rope_freqs.weight` tensor
/// ([rope_dim / 2], float32) when the file has one, else it is empty (the file's own factors are read by the caller).
/// Errors: ERR_UNSUPPORTED_MODEL for another architecture (named), ERR_INVALID_MODEL for a contradiction.
ModelConfig read_config(const GgufFile& file);

}  // namespace cria
