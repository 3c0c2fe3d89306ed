#include "model/config_rope.h"

#include <cmath>

#include "core/rope_frequencies.h"
#include "io/file_error.h"
#include "model/config_error.h"

namespace cria {
namespace {

std::string rope_key(const ModelConfig& config, std::string_view suffix) {
  return config.architecture + ".rope." + std::string(suffix);
}

/// A finite float of at least `min`.
double check_factor(const GgufFile& file, const std::string& key, double value, double min) {
  if (!(std::isfinite(value) && value >= min))
    throw_invalid_key(file, key, "a finite number of at least " + number_text(min), number_text(value));
  return value;
}

double get_factor(const GgufFile& file, const std::string& key, double min) {
  return check_factor(file, key, file.get_float(key), min);
}

constexpr double kMinFactor = 1e-3;  // shrinking positions is odd but defined; zero is not

/// Llama 3.1's scaling from its parameters.
void apply_llama3(const GgufFile& file, const ModelConfig& config, std::vector<double>* inv_freq) {
  const double factor = get_factor(file, rope_key(config, "scaling.factor"), kMinFactor);
  const double low = get_factor(file, rope_key(config, "scaling.low_freq_factor"), kMinFactor);
  const std::string high_key = rope_key(config, "scaling.high_freq_factor");
  const double high = get_factor(file, high_key, kMinFactor);
  if (!(high > low))
    throw_invalid_key(file, high_key, "more than the low_freq_factor " + number_text(low), number_text(high));
  const std::string original_key = rope_key(config, "scaling.original_context_length");
  const double original = get_factor(file, original_key, 1);
  const RopeScaling scaling{.kind = RopeScaling::Kind::llama3,
                            .factor = factor,
                            .low_freq_factor = low,
                            .high_freq_factor = high,
                            .original_context = original};
  for (double& freq : *inv_freq) freq = llama3_frequency(freq, scaling);
}

/// Linear scaling: positions divided by a factor. `rope.scale_linear` is its older spelling.
double read_linear_factor(const GgufFile& file, const ModelConfig& config, bool named_linear) {
  const std::string key = rope_key(config, "scaling.factor");
  const std::string old_key = rope_key(config, "scale_linear");
  if (named_linear && file.find(key) != nullptr) return get_factor(file, key, kMinFactor);
  if (file.find(old_key) != nullptr) {
    const double factor = file.get_float(old_key);
    return factor == 0 ? 1 : check_factor(file, old_key, factor, kMinFactor);  // 0: not set
  }
  return 1;
}

/// The factors of a `rope_freqs.weight` tensor, in which converters store Llama 3.1's scaling; empty without
/// one.
std::vector<float> read_factor_tensor(const GgufFile& file, const ModelConfig& config) {
  const GgufTensor* tensor = file.find_tensor("rope_freqs.weight");
  if (tensor == nullptr) return {};
  if (tensor->dtype != DType::f32)
    throw_unsupported_tensor(file, tensor->name,
                             "expected F32, found " + std::string(name_of(tensor->dtype)));
  const std::uint64_t count = config.rope_dim / 2;
  if (tensor->n_dims != 1 || tensor->dims[0] != count) {
    throw_invalid_tensor(file, tensor->name, std::to_string(count) + " factors (half the rotated dimensions)",
                         std::to_string(tensor->elements()));
  }
  std::vector<float> factors(count);
  file.files()[tensor->file_index]->read_at(tensor->offset, factors.data(), factors.size() * sizeof(float));
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(std::isfinite(factors[i]) && factors[i] >= kMinFactor)) {
      throw_invalid_tensor(file, tensor->name, "finite positive factors",
                           number_text(factors[i]) + " as factor " + std::to_string(i));
    }
  }
  return factors;
}

}  // namespace

void read_rope(const GgufFile& file, ModelConfig* config) {
  const std::string dim_key = rope_key(*config, "dimension_count");
  const std::uint64_t rope_dim = file.find_uint(dim_key).value_or(config->head_dim);
  if (rope_dim < 2 || rope_dim > config->head_dim || rope_dim % 2 != 0) {
    throw_invalid_key(file, dim_key,
                      "an even number from 2 to the head size " + std::to_string(config->head_dim),
                      std::to_string(rope_dim));
  }
  config->rope_dim = static_cast<std::uint32_t>(rope_dim);
  config->rope_layout = RopeLayout::interleaved;  // converters reorder Q and K of "llama" to Meta's layout

  const std::string base_key = rope_key(*config, "freq_base");
  config->rope_base = check_factor(file, base_key, file.find_float(base_key).value_or(10000), 1);

  std::vector<double> inv_freq(config->rope_dim / 2);
  for (std::size_t i = 0; i < inv_freq.size(); ++i)
    inv_freq[i] = std::pow(config->rope_base, -2.0 * static_cast<double>(i) / config->rope_dim);

  const std::vector<float> factors = read_factor_tensor(file, *config);
  const std::string type_key = rope_key(*config, "scaling.type");
  const std::string type = file.find_string(type_key).value_or("");
  if (type == "llama3") {
    if (!factors.empty())
      throw_invalid_key(file, type_key, "no scaling beside the tensor rope_freqs.weight", quote(type));
    apply_llama3(file, *config, &inv_freq);
    config->rope_scaling = "llama3";
  } else if (type.empty() || type == "none" || type == "linear") {
    const double factor = type == "none" ? 1 : read_linear_factor(file, *config, type == "linear");
    for (double& freq : inv_freq) freq /= factor;
    config->rope_scaling = factor == 1 ? "none" : "linear";
  } else {
    throw_unsupported_key(file, type_key, "only the scalings none, linear and llama3 are supported",
                          quote(type));
  }
  if (!factors.empty()) {
    for (std::size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= factors[i];
    config->rope_scaling = config->rope_scaling == "linear" ? "linear+tensor" : "tensor";
  }
  config->rope_inv_freq.assign(inv_freq.begin(), inv_freq.end());
}

}  // namespace cria
