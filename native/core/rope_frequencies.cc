#include "core/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cria {
namespace {

/// YaRN's ramp for dimension pair `i`: 1 where the frequency is divided by the factor, 0 where it is
/// unchanged.
double yarn_ramp(double base, std::int32_t rope_dim, const RopeScaling& s, std::int32_t i) {
  // The dimension that turns `rotations` times within the original context.
  const auto dimension_of = [&](double rotations) {
    return rope_dim * std::log(s.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(base));
  };
  const double low = std::max(std::floor(dimension_of(s.beta_fast)), 0.0);
  const double high = std::min(std::ceil(dimension_of(s.beta_slow)), rope_dim - 1.0);
  return std::clamp((i - low) / (high > low ? high - low : 0.001), 0.0, 1.0);
}

/// Llama 3.1: low frequencies are divided by the factor, high ones are unchanged, those between are blended.
double llama3_frequency(double frequency, const RopeScaling& s) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > s.original_context / s.low_freq_factor) return frequency / s.factor;
  if (wavelength < s.original_context / s.high_freq_factor) return frequency;
  const double smooth =
      (s.original_context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(double base, std::int32_t rope_dim, const RopeScaling& s) {
  std::vector<float> frequencies;
  frequencies.reserve(static_cast<std::size_t>(rope_dim / 2));
  for (std::int32_t i = 0; i < rope_dim / 2; i++) {
    double frequency = std::pow(base, -2.0 * i / rope_dim);
    switch (s.kind) {
      case RopeScaling::Kind::none: break;
      case RopeScaling::Kind::linear: frequency /= s.factor; break;
      case RopeScaling::Kind::llama3: frequency = llama3_frequency(frequency, s); break;
      case RopeScaling::Kind::yarn: {
        const double scaled = yarn_ramp(base, rope_dim, s, i);
        frequency = frequency / s.factor * scaled + frequency * (1 - scaled);
        break;
      }
    }
    if (!s.factors.empty()) frequency /= s.factors[static_cast<std::size_t>(i)];
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

double rope_magnitude(const RopeScaling& s) {
  return s.kind == RopeScaling::Kind::yarn && s.factor > 1 ? 0.1 * std::log(s.factor) + 1 : 1;
}

void rope_angles(std::span<const std::int32_t> positions, std::span<const float> frequencies,
                 double magnitude, float* cos, float* sin) {
  for (const std::int32_t position : positions) {
    for (const float frequency : frequencies) {
      const double angle = static_cast<float>(position) * frequency;
      *cos++ = static_cast<float>(std::cos(angle) * magnitude);
      *sin++ = static_cast<float>(std::sin(angle) * magnitude);
    }
  }
}

}  // namespace cria
