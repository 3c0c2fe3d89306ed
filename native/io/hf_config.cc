#include "io/hf_config.h"

#include <filesystem>
#include <string_view>

#include "core/error.h"
#include "io/file_error.h"
#include "io/hf_rope.h"

namespace cria {
namespace {

/// What a model type's configuration class in transformers says where config.json is silent.
struct Defaults {
  std::string_view model_type;
  std::uint64_t kv_heads;  // 0: as many as heads
  std::uint64_t context_length;
  double rms_norm_eps;
  double rope_theta;
  bool has_biases;  // reads attention_bias and mlp_bias
  bool has_experts;
};

constexpr Defaults kDefaults[] = {
    {"llama", 0, 2048, 1e-6, 1e4, true, false},
    {"mistral", 8, 131072, 1e-6, 1e4, false, false},
    {"mixtral", 8, 131072, 1e-5, 1e6, false, true},
};

const Defaults& defaults_of(const JsonValue& config, const AssembledSource& source) {
  const JsonValue type = config.get("model_type");
  for (const Defaults& defaults : kDefaults)
    if (defaults.model_type == type.as_string()) return defaults;
  throw_unsupported_value(source, type, quote(type.as_string()),
                          "this architecture is not supported; cria runs \"llama\", \"mistral\" and "
                          "\"mixtral\"");
}

std::uint64_t size_or(const JsonValue& config, std::string_view key, std::uint64_t otherwise) {
  const auto value = config.find(key);
  return value ? value->as_size() : otherwise;
}

bool flag(const JsonValue& config, std::string_view key, bool otherwise) {
  const auto value = config.find(key);
  return value ? value->as_bool() : otherwise;
}

/// Refuses what changes the computation and has no counterpart here.
void check_variant(const JsonValue& config, const AssembledSource& source) {
  if (const auto architectures = config.find("architectures")) {
    for (const JsonValue name : architectures->elements()) {
      if (!name.as_string().ends_with("ForCausalLM"))
        throw_unsupported_value(source, name, quote(name.as_string()),
                                "only models for text generation (...ForCausalLM) are supported");
    }
  }
  if (const auto activation = config.find("hidden_act"); activation && activation->as_string() != "silu")
    throw_unsupported_value(source, *activation, quote(activation->as_string()),
                            "only the activation \"silu\" is supported");
  // Other makers' configurations under a Llama's name.
  for (const std::string_view key : {"embedding_multiplier", "logits_scaling", "residual_multiplier",
                                     "attention_multiplier", "partial_rotary_factor"}) {
    const auto value = config.find(key);
    if (value && value->as_number() != 1)
      throw_unsupported_value(source, *value, number_text(value->as_number()),
                              "this variant of Llama is not supported");
  }
}

/// The number of heads and their size.
void read_heads(const JsonValue& config, const Defaults& defaults, HfConfig* into, AssembledSource* source) {
  const JsonValue heads = config.get("num_attention_heads");
  into->n_heads = heads.as_size();
  const std::uint64_t hidden = config.get("hidden_size").as_size();
  if (into->n_heads == 0) heads.fail("a positive integer", "0");
  const auto head_dim = config.find("head_dim");
  if (!head_dim && hidden % into->n_heads != 0)
    heads.fail("a divisor of hidden_size " + std::to_string(hidden), std::to_string(into->n_heads));
  into->head_dim = head_dim ? head_dim->as_size() : hidden / into->n_heads;
  // Null, or a key that is missing from an early Llama: no grouping.
  const bool given = config.find("num_key_value_heads").has_value();
  bool null = false;
  for (const JsonMember member : config.members())
    null = null || (member.key == "num_key_value_heads" && member.value.is(JsonType::null));
  const std::uint64_t otherwise = null || defaults.kv_heads == 0 ? into->n_heads : defaults.kv_heads;
  const std::uint64_t kv_heads = given ? config.get("num_key_value_heads").as_size() : otherwise;
  source->set_uint("llama.attention.head_count", into->n_heads);
  source->set_uint("llama.attention.head_count_kv", kv_heads);
  source->set_uint("llama.attention.key_length", into->head_dim);
  source->set_uint("llama.attention.value_length", into->head_dim);
}

void read_experts(const JsonValue& config, HfConfig* into, AssembledSource* source) {
  into->n_experts = size_or(config, "num_local_experts", 8);
  source->set_uint("llama.expert_count", into->n_experts);
  source->set_uint("llama.expert_used_count", size_or(config, "num_experts_per_tok", 2));
}

std::string name_of_model(const JsonValue& config, const AssembledSource& source) {
  if (const auto name = config.find("_name_or_path"); name && !name->as_string().empty())
    return std::filesystem::path(name->as_string()).filename().string();
  return std::filesystem::path(source.path()).filename().string();
}

}  // namespace

void throw_unsupported_value(const AssembledSource& source, const JsonValue& value, const std::string& found,
                             const std::string& why) {
  throw Error(ErrorCode::unsupported_model,
              source.path() + ": config.json: " + value.path() + " is " + found + ": " + why,
              {{"path", source.path()}, {"key", value.path()}, {"found", found}});
}

HfConfig read_hf_config(const JsonValue& config, AssembledSource* source) {
  const Defaults& defaults = defaults_of(config, *source);
  check_variant(config, *source);
  HfConfig read;
  read.n_layers = config.get("num_hidden_layers").as_size();
  read.tied = flag(config, "tie_word_embeddings", false);
  if (defaults.has_biases) {
    read.attention_bias = flag(config, "attention_bias", false);
    read.mlp_bias = flag(config, "mlp_bias", false);
  }
  const std::uint64_t context = size_or(config, "max_position_embeddings", defaults.context_length);
  source->set_string("general.architecture", "llama");
  source->set_string("general.type", "model");
  source->set_string("general.name", name_of_model(config, *source));
  source->set_uint("llama.block_count", read.n_layers);
  source->set_uint("llama.context_length", context);
  source->set_uint("llama.embedding_length", config.get("hidden_size").as_size());
  source->set_uint("llama.feed_forward_length", config.get("intermediate_size").as_size());
  source->set_uint("llama.vocab_size", config.get("vocab_size").as_size());
  const auto epsilon = config.find("rms_norm_eps");
  source->set_float("llama.attention.layer_norm_rms_epsilon",
                    epsilon ? epsilon->as_number() : defaults.rms_norm_eps);
  read_heads(config, defaults, &read, source);
  if (defaults.has_experts) read_experts(config, &read, source);
  if (const auto window = config.find("sliding_window"); window && window->as_size() < context)
    source->set_uint("llama.attention.sliding_window", window->as_size());
  read_hf_rope(config, {.theta = defaults.rope_theta, .head_dim = read.head_dim, .context_length = context},
               source);
  return read;
}

}  // namespace cria
