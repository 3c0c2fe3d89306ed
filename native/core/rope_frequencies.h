// Inverse frequencies of the rotary position embedding (Su et al. 2021), and the scalings that stretch its
// context.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cria {

struct RopeScaling {
  enum class Kind { none, linear, llama3, yarn };
  Kind kind = Kind::none;
  double factor = 1;           // linear, llama3, yarn: how much longer the context is
  double low_freq_factor = 1;  // llama3: wavelengths above original_context / low are slowed down by `factor`
  double high_freq_factor = 4;  // llama3: those below original_context / high stay; above low_freq_factor
  double original_context = 0;  // llama3, yarn: tokens that the model was first trained on
  double beta_fast = 32;        // yarn: rotations within original_context above which a dimension stays
  double beta_slow = 1;         // yarn: rotations below which it is slowed down by `factor`
  std::vector<float>
      factors;  // [rope_dim / 2] or none: each frequency is divided by its own, whatever the kind
};

/// Llama 3.1's blend for one frequency: long waves are slowed down by `factor`, short ones stay, and those
/// between are blended. Source: Meta's apply_scaling; Hugging Face transformers, _compute_llama3_parameters.
double llama3_frequency(double frequency, const RopeScaling& scaling);

/// [rope_dim / 2]: base^(-2i / rope_dim), scaled. YaRN: Peng et al. 2023, section 3.2, with transformers'
/// _compute_yarn_parameters (the ramp between whole dimensions). `rope_dim` is even.
std::vector<float> rope_inverse_frequencies(double base, std::int32_t rope_dim, const RopeScaling& scaling);

/// What cosine and sine are multiplied with: YaRN's 0.1 ln(factor) + 1 (its equation 22), else 1.
double rope_magnitude(const RopeScaling& scaling);

/// cos and sin of position * frequency, [positions, frequencies] each. The angle is a float32 product, as in
/// Meta's and Hugging Face's code: what the weights were trained with.
void rope_angles(std::span<const std::int32_t> positions, std::span<const float> frequencies,
                 double magnitude, float* cos, float* sin);

}  // namespace cria
