// RoPE's parameters in a Hugging Face config.json -> GGUF metadata and factors.
#pragma once

#include <cstdint>

#include "core/json.h"
#include "io/assembled_source.h"

namespace cria {

struct HfRopeDefaults {
  double theta;  // the base
  std::uint64_t head_dim;
  std::uint64_t context_length;
};

/// Reads `rope_parameters` or `rope_scaling`, and `rope_theta`. The scalings: default, linear, llama3 (as the
/// tensor rope_freqs.weight), yarn, longrope (as rope_factors_long.weight and rope_factors_short.weight).
/// Errors: ERR_INVALID_FILE; ERR_UNSUPPORTED_MODEL for any other scaling, such as dynamic NTK, which depends
/// on the length of the text.
void read_hf_rope(const JsonValue& config, const HfRopeDefaults& defaults, AssembledSource* source);

/// Llama 3.1's scaling as the divisors of the head_dim / 2 frequencies: the tensor rope_freqs.weight.
void add_llama3_factors(double theta, std::uint64_t head_dim, double factor, double low_freq_factor,
                        double high_freq_factor, double original_context, AssembledSource* source);

}  // namespace cria
