#include "io/hf_rope.h"

#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>

#include "io/file_error.h"
#include "io/hf_config.h"

namespace cria {
namespace {

/// Far beyond any head; bounds what a hostile file makes us compute.
constexpr std::uint64_t kMaxHeadDim = 1 << 16;

/// One scaling's parameters, with what they fall back to.
struct Parameters {
  JsonValue config;
  JsonValue scaling;  // `rope_scaling` or `rope_parameters`
  HfRopeDefaults defaults;
  double theta;

  double number(std::string_view key) const { return scaling.get(key).as_number(); }
  std::optional<double> find_number(std::string_view key) const {
    const auto value = scaling.find(key);
    return value ? std::optional(value->as_number()) : std::nullopt;
  }
  /// The context of the original training. Some models have it beside the scaling.
  std::uint64_t original_context() const {
    constexpr std::string_view kKey = "original_max_position_embeddings";
    if (const auto beside = config.find(kKey); beside && !scaling.find(kKey)) return beside->as_size();
    return scaling.get(kKey).as_size();
  }
  double factor_or_ratio() const {
    if (const auto factor = find_number("factor")) return *factor;
    return static_cast<double>(defaults.context_length) / static_cast<double>(original_context());
  }
};

/// YaRN's factor of attention (its equation 22), with DeepSeek's weight `mscale`.
double yarn_magnitude(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void read_linear(const Parameters& p, AssembledSource* source) {
  source->set_string("llama.rope.scaling.type", "linear");
  source->set_float("llama.rope.scaling.factor", p.number("factor"));
}

void read_llama3(const Parameters& p, AssembledSource* source) {
  const JsonValue high = p.scaling.get("high_freq_factor");
  const double low = p.number("low_freq_factor");
  if (!(low > 0 && high.as_number() > low))
    high.fail("more than a positive low_freq_factor", number_text(high.as_number()));
  add_llama3_factors(p.theta, p.defaults.head_dim, p.number("factor"), low, high.as_number(),
                     static_cast<double>(p.original_context()), source);
}

void read_yarn(const Parameters& p, AssembledSource* source) {
  if (const auto truncate = p.scaling.find("truncate"); truncate && !truncate->as_bool())
    throw_unsupported_value(*source, *truncate, "false", "YaRN without rounded bounds is not supported");
  const double factor = p.factor_or_ratio();
  source->set_string("llama.rope.scaling.type", "yarn");
  source->set_float("llama.rope.scaling.factor", factor);
  source->set_uint("llama.rope.scaling.original_context_length", p.original_context());
  for (const std::string_view beta : {"beta_fast", "beta_slow"}) {
    if (const auto value = p.find_number(beta))
      source->set_float("llama.rope.scaling." + std::string(beta), *value);
  }
  // GGUF's factor comes on top of YaRN's own.
  const auto given = p.find_number("attention_factor");
  const auto mscale = p.find_number("mscale"), all = p.find_number("mscale_all_dim");
  const double usual = yarn_magnitude(factor, 1);
  double wanted = usual;
  if (given)
    wanted = *given;
  else if (mscale && all && *mscale != 0 && *all != 0)
    wanted = yarn_magnitude(factor, *mscale) / yarn_magnitude(factor, *all);
  if (wanted != usual) source->set_float("llama.rope.scaling.attn_factor", wanted / usual);
}

void add_factors(std::string name, JsonValue list, std::uint64_t count, AssembledSource* source) {
  if (list.size() != count) list.fail(std::to_string(count) + " factors", std::to_string(list.size()));
  Assembly assembly;
  for (const JsonValue factor : list.elements())
    assembly.values.push_back(static_cast<float>(factor.as_number()));
  source->add_tensor(std::move(name), DType::f32, {count}, std::move(assembly));
}

void read_longrope(const Parameters& p, AssembledSource* source) {
  const std::uint64_t count = p.defaults.head_dim / 2, original = p.original_context();
  add_factors("rope_factors_long.weight", p.scaling.get("long_factor"), count, source);
  add_factors("rope_factors_short.weight", p.scaling.get("short_factor"), count, source);
  source->set_string("llama.rope.scaling.type", "longrope");
  source->set_uint("llama.rope.scaling.original_context_length", original);
  const double factor = p.factor_or_ratio();
  double magnitude =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original)));
  if (const auto given = p.find_number("attention_factor")) magnitude = *given;
  if (!std::isfinite(magnitude))
    p.scaling.fail("a factor of attention", "an original context of " + std::to_string(original));
  source->set_float("llama.rope.scaling.attn_factor", magnitude);
}

void read_scaling(const Parameters& p, AssembledSource* source) {
  auto type = p.scaling.find("rope_type");
  if (!type) type = p.scaling.find("type");
  const std::string_view name = type ? type->as_string() : "default";
  if (name == "default") return;
  if (name == "linear") return read_linear(p, source);
  if (name == "llama3") return read_llama3(p, source);
  if (name == "yarn") return read_yarn(p, source);
  if (name == "longrope" || name == "su") return read_longrope(p, source);
  throw_unsupported_value(
      *source, *type, quote(name),
      name == "dynamic" ? "dynamic NTK scaling, which changes with the length of the text, is not supported"
                        : "only the scalings default, linear, llama3, yarn and longrope are supported");
}

}  // namespace

void add_llama3_factors(double theta, std::uint64_t head_dim, double factor, double low_freq_factor,
                        double high_freq_factor, double original_context, AssembledSource* source) {
  Assembly assembly;
  for (std::uint64_t i = 0; i < head_dim / 2; ++i) {
    const double wavelength =
        2 * std::numbers::pi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    double divisor = 1;
    if (wavelength > original_context / low_freq_factor) {
      divisor = factor;
    } else if (wavelength >= original_context / high_freq_factor) {
      const double smooth =
          (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    assembly.values.push_back(static_cast<float>(divisor));
  }
  source->add_tensor("rope_freqs.weight", DType::f32, {head_dim / 2}, std::move(assembly));
}

void read_hf_rope(const JsonValue& config, const HfRopeDefaults& defaults, AssembledSource* source) {
  if (defaults.head_dim < 2 || defaults.head_dim > kMaxHeadDim || defaults.head_dim % 2 != 0)
    config.fail("an even head_dim", std::to_string(defaults.head_dim));
  // transformers 5 prefers the older key where both are there.
  auto scaling = config.find("rope_scaling");
  if (!scaling) scaling = config.find("rope_parameters");
  std::optional<JsonValue> theta;
  if (scaling) {
    theta = scaling->find("rope_theta");
    for (const JsonMember member : scaling->members())
      if (member.value.is(JsonType::object))
        throw_unsupported_value(*source, member.value, "an object",
                                "RoPE parameters that differ among layers are not supported");
    const auto partial = scaling->find("partial_rotary_factor");
    if (partial && partial->as_number() != 1)
      throw_unsupported_value(*source, *partial, number_text(partial->as_number()),
                              "only heads that are rotated as a whole are supported");
  }
  if (!theta) theta = config.find("rope_theta");
  const double base = theta ? theta->as_number() : defaults.theta;
  if (theta && !(base >= 1)) theta->fail("a base of at least 1", number_text(base));
  source->set_uint("llama.rope.dimension_count", defaults.head_dim);
  source->set_float("llama.rope.freq_base", base);
  if (scaling)
    read_scaling({.config = config, .scaling = *scaling, .defaults = defaults, .theta = base}, source);
}

}  // namespace cria
