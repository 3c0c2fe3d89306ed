#include "model/config_rope.h"

#include <cmath>
#include <utility>

#include "core/rope_frequencies.h"
#include "io/file_error.h"
#include "model/config_error.h"

namespace cria {
namespace {

std::string rope_key(const ModelConfig& config, std::string_view suffix) {
  return config.architecture + ".rope." + std::string(suffix);
}

/// A finite float of at least `min`.
double check_factor(const ModelSource& file, const std::string& key, double value, double min) {
  if (!(std::isfinite(value) && value >= min))
    throw_invalid_key(file, key, "a finite number of at least " + number_text(min), number_text(value));
  return value;
}

double get_factor(const ModelSource& file, const std::string& key, double min) {
  return check_factor(file, key, file.get_float(key), min);
}

constexpr double kMinFactor = 1e-3;  // a factor below 1 is odd but well-defined; zero is not

/// Llama 3.1's scaling from its parameters.
RopeScaling read_llama3(const ModelSource& file, const ModelConfig& config) {
  RopeScaling scaling;
  scaling.kind = RopeScaling::Kind::llama3;
  scaling.factor = get_factor(file, rope_key(config, "scaling.factor"), kMinFactor);
  scaling.low_freq_factor = get_factor(file, rope_key(config, "scaling.low_freq_factor"), kMinFactor);
  const std::string high_key = rope_key(config, "scaling.high_freq_factor");
  scaling.high_freq_factor = get_factor(file, high_key, kMinFactor);
  if (!(scaling.high_freq_factor > scaling.low_freq_factor)) {
    throw_invalid_key(file, high_key, "more than the low_freq_factor " + number_text(scaling.low_freq_factor),
                      number_text(scaling.high_freq_factor));
  }
  scaling.original_context = get_factor(file, rope_key(config, "scaling.original_context_length"), 1);
  return scaling;
}

/// Linear scaling: positions divided by a factor. `rope.scale_linear` is its older spelling.
double read_linear_factor(const ModelSource& file, const ModelConfig& config, bool named_linear) {
  const std::string key = rope_key(config, "scaling.factor");
  const std::string old_key = rope_key(config, "scale_linear");
  if (named_linear && file.find(key) != nullptr) return get_factor(file, key, kMinFactor);
  if (file.find(old_key) != nullptr) {
    const double factor = file.get_float(old_key);
    return factor == 0 ? 1 : check_factor(file, old_key, factor, kMinFactor);  // 0: not set
  }
  return 1;
}

/// The factors of the tensor `rope_freqs.weight`, in which converters store Llama 3.1's scaling; empty when
/// the file has no such tensor.
std::vector<float> read_factor_tensor(const ModelSource& file, const ModelConfig& config) {
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
  file.read(*tensor, 0, factors.data(), factors.size() * sizeof(float));
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(std::isfinite(factors[i]) && factors[i] >= kMinFactor)) {
      throw_invalid_tensor(file, tensor->name, "finite positive factors",
                           number_text(factors[i]) + " as factor " + std::to_string(i));
    }
  }
  return factors;
}

RopeScaling read_scaling(const ModelSource& file, const ModelConfig& config) {
  std::vector<float> factors = read_factor_tensor(file, config);
  const std::string key = rope_key(config, "scaling.type");
  const std::string type = file.find_string(key).value_or("");
  if (type == "llama3") {
    if (!factors.empty())
      throw_invalid_key(file, key, "no scaling beside the tensor rope_freqs.weight", quote(type));
    return read_llama3(file, config);
  }
  if (!type.empty() && type != "none" && type != "linear")
    throw_unsupported_key(file, key, "only the scalings none, linear and llama3 are supported", quote(type));
  RopeScaling scaling;
  scaling.factor = type == "none" ? 1 : read_linear_factor(file, config, type == "linear");
  if (scaling.factor != 1) scaling.kind = RopeScaling::Kind::linear;
  scaling.factors = std::move(factors);
  return scaling;
}

/// ModelConfig::rope_scaling.
std::string scaling_name(const RopeScaling& scaling) {
  const bool linear = scaling.kind == RopeScaling::Kind::linear;
  if (!scaling.factors.empty()) return linear ? "linear+tensor" : "tensor";
  if (scaling.kind == RopeScaling::Kind::llama3) return "llama3";
  return linear ? "linear" : "none";
}

}  // namespace

void read_rope(const ModelSource& file, ModelConfig* config) {
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

  const RopeScaling scaling = read_scaling(file, *config);
  config->rope_scaling = scaling_name(scaling);
  config->rope_inv_freq =
      rope_inverse_frequencies(config->rope_base, static_cast<std::int32_t>(rope_dim), scaling);
}

}  // namespace cria
