// Inverse frequencies of the rotary position embedding (RoPE, Su et al. 2021), and the scalings that extend
// its context.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cria {

struct RopeScaling {
  enum class Kind { none, linear, llama3, yarn };
  Kind kind = Kind::none;
  /// linear, llama3, yarn: by how much the context is extended.
  double factor = 1;
  /// llama3: frequencies with a wavelength above original_context / low_freq_factor are divided by `factor`.
  double low_freq_factor = 1;
  /// llama3: frequencies with a wavelength below original_context / high_freq_factor are unchanged. Greater
  /// than low_freq_factor.
  double high_freq_factor = 4;
  /// llama3, yarn: the context length of the original training, in tokens.
  double original_context = 0;
  /// yarn: a dimension that makes more rotations than this within original_context is unchanged.
  double beta_fast = 32;
  /// yarn: a dimension that makes fewer rotations than this is divided by `factor`.
  double beta_slow = 1;
  /// [rope_dim / 2] or empty: a further divisor of each frequency, for every kind.
  std::vector<float> factors;
};

/// [rope_dim / 2]: base^(-2i / rope_dim), scaled. `rope_dim` is even. Sources: for Llama 3.1, Meta's
/// apply_scaling and Hugging Face transformers, _compute_llama3_parameters; for YaRN, Peng et al. 2023,
/// section 3.2, and transformers, _compute_yarn_parameters (the ramp between whole dimensions).
std::vector<float> rope_inverse_frequencies(double base, std::int32_t rope_dim, const RopeScaling& scaling);

/// The factor of cosine and sine: YaRN's 0.1 ln(factor) + 1 (its equation 22), else 1.
double rope_magnitude(const RopeScaling& scaling);

/// cos and sin of position * frequency, [positions, frequencies] each. The angle is a float32 product, as in
/// the code of Meta and Hugging Face with which the weights were trained.
void rope_angles(std::span<const std::int32_t> positions, std::span<const float> frequencies,
                 double magnitude, float* cos, float* sin);

}  // namespace cria
