#include "model/config_rope.h"

#include <cmath>
#include <string_view>
#include <vector>

#include "core/rope_frequencies.h"
#include "io/file_error.h"
#include "model/config_error.h"
#include "model/float_tensor.h"

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

/// The factor of the scaling, under its name or the older one. 0 means "not set", as in llama.cpp.
double read_scaling_factor(const ModelSource& file, const ModelConfig& config) {
  std::string key = rope_key(config, "scaling.factor");
  if (file.find(key) == nullptr) key = rope_key(config, "scale_linear");
  const double factor = file.find_float(key).value_or(0);
  return factor == 0 ? 1 : check_factor(file, key, factor, kMinFactor);
}

/// The divisors of the frequencies in a tensor; empty when the file has no such tensor.
std::vector<float> read_factor_tensor(const ModelSource& file, const ModelConfig& config,
                                      std::string_view name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) return {};
  const std::uint64_t count = config.rope_dim / 2;
  if (tensor->n_dims != 1 || tensor->dims[0] != count) {
    throw_invalid_tensor(file, tensor->name, std::to_string(count) + " factors (half the rotated dimensions)",
                         std::to_string(tensor->elements()));
  }
  check_float_tensor(file, *tensor);
  std::vector<float> factors(count);
  read_floats(file, *tensor, 0, factors);
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(std::isfinite(factors[i]) && factors[i] >= kMinFactor)) {
      throw_invalid_tensor(file, tensor->name, "finite positive factors",
                           number_text(factors[i]) + " as factor " + std::to_string(i));
    }
  }
  return factors;
}

constexpr std::string_view kLongFactors = "rope_factors_long.weight";
constexpr std::string_view kShortFactors = "rope_factors_short.weight";
// Llama 3.1's scaling, as converters store it.
constexpr std::string_view kFactors = "rope_freqs.weight";

/// Refuses the tensor, which the named scaling does not use.
void check_no_tensor(const ModelSource& file, std::string_view tensor, const std::string& type) {
  if (file.find_tensor(tensor) != nullptr)
    throw_invalid_tensor(file, tensor, "no such tensor with the RoPE scaling " + quote(type), "one");
}

double read_original_context(const ModelSource& file, const ModelConfig& config) {
  const std::string key = rope_key(config, "scaling.original_context_length");
  const double given = file.find_float(key).value_or(0);
  return given == 0 ? config.context_length : check_factor(file, key, given, 1);
}

/// YaRN with llama.cpp's defaults.
void read_yarn(const ModelSource& file, const ModelConfig& config, RopeScaling* scaling) {
  scaling->kind = RopeScaling::Kind::yarn;
  scaling->original_context = read_original_context(file, config);
  const std::string fast_key = rope_key(config, "scaling.beta_fast"),
                    slow_key = rope_key(config, "scaling.beta_slow");
  scaling->beta_fast = check_factor(file, fast_key, file.find_float(fast_key).value_or(32), kMinFactor);
  scaling->beta_slow = check_factor(file, slow_key, file.find_float(slow_key).value_or(1), kMinFactor);
  if (config.rope_base <= 1)
    throw_invalid_key(file, rope_key(config, "freq_base"), "more than 1, with the scaling \"yarn\"",
                      number_text(config.rope_base));
}

/// LongRoPE (Ding et al. 2024): one of two tensors of factors, by the context that the model will run with.
void read_longrope(const ModelSource& file, const ModelConfig& config, std::int64_t context_length,
                   RopeScaling* scaling) {
  check_no_tensor(file, kFactors, "longrope");
  const auto context = static_cast<double>(context_length > 0 ? context_length : config.context_length);
  const bool is_long = context > read_original_context(file, config);
  scaling->factors = read_factor_tensor(file, config, is_long ? kLongFactors : kShortFactors);
}

/// The meaning of the keys is llama.cpp's: a factor applies with every type but "none", and with none named.
RopeScaling read_scaling(const ModelSource& file, const ModelConfig& config, const std::string& type,
                         std::int64_t context_length) {
  if (type == "llama3") {
    check_no_tensor(file, kFactors, type);
    return read_llama3(file, config);
  }
  RopeScaling scaling;
  scaling.factor = type == "none" ? 1 : read_scaling_factor(file, config);
  if (scaling.factor != 1) scaling.kind = RopeScaling::Kind::linear;
  if (type == "longrope") {
    read_longrope(file, config, context_length, &scaling);
    return scaling;
  }
  if (type == "yarn") read_yarn(file, config, &scaling);
  for (const std::string_view tensor : {kLongFactors, kShortFactors}) check_no_tensor(file, tensor, type);
  scaling.factors = read_factor_tensor(file, config, kFactors);
  return scaling;
}

std::string read_scaling_type(const ModelSource& file, const ModelConfig& config) {
  const std::string key = rope_key(config, "scaling.type");
  const std::string type = file.find_string(key).value_or("linear");
  for (const std::string_view known : {"none", "linear", "llama3", "yarn", "longrope"})
    if (type == known) return type;
  throw_unsupported_key(file, key, "only the scalings none, linear, llama3, yarn and longrope are supported",
                        quote(type));
}

/// ModelConfig::rope_scaling.
std::string scaling_name(const RopeScaling& scaling, const std::string& type) {
  if (type == "longrope" || type == "llama3") return type;
  const bool scaled = scaling.kind != RopeScaling::Kind::none;
  if (scaling.factors.empty()) return scaled ? type : "none";
  return scaled ? type + "+tensor" : "tensor";
}

}  // namespace

void read_rope(const ModelSource& file, std::int64_t context_length, ModelConfig* config) {
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

  const std::string type = read_scaling_type(file, *config);
  const RopeScaling scaling = read_scaling(file, *config, type, context_length);
  config->rope_scaling = scaling_name(scaling, type);
  config->rope_inv_freq =
      rope_inverse_frequencies(config->rope_base, static_cast<std::int32_t>(rope_dim), scaling);
  const std::string attn_key = rope_key(*config, "scaling.attn_factor");
  config->rope_magnitude = rope_magnitude(scaling) *
                           check_factor(file, attn_key, file.find_float(attn_key).value_or(1), kMinFactor);
}

}  // namespace cria
