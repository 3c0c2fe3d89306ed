#include "io/meta_params.h"

#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/file_error.h"
#include "io/hf_rope.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxSize = 1 << 24;  // beyond any dimension; keeps the arithmetic below exact

std::uint64_t size(const JsonValue& value) {
  const std::uint64_t found = value.as_size();
  if (found < 1 || found > kMaxSize) value.fail("1 to " + std::to_string(kMaxSize), std::to_string(found));
  return found;
}

std::optional<std::uint64_t> find_size(const JsonValue& params, std::string_view key) {
  const auto value = params.find(key);
  return value ? std::optional(size(*value)) : std::nullopt;
}

double number_or(const JsonValue& params, std::string_view key, double otherwise) {
  const auto value = params.find(key);
  return value ? value->as_number() : otherwise;
}

/// Meta's FeedForward: two thirds of four times dim, scaled, rounded up. Mistral's files give it outright.
std::uint64_t ffn_hidden(const JsonValue& params, std::uint64_t dim) {
  if (const auto given = find_size(params, "hidden_dim")) return *given;
  const std::uint64_t multiple_of = find_size(params, "multiple_of").value_or(256);
  std::uint64_t hidden = 2 * (4 * dim) / 3;
  if (const auto multiplier = params.find("ffn_dim_multiplier")) {
    const double scaled = multiplier->as_number() * static_cast<double>(hidden);
    if (!(scaled >= 1 && scaled <= static_cast<double>(kMaxSize)))
      multiplier->fail("a factor of the feed-forward size", number_text(multiplier->as_number()));
    hidden = static_cast<std::uint64_t>(scaled);
  }
  return (hidden + multiple_of - 1) / multiple_of * multiple_of;
}

/// params.json does not say for how many tokens a model was trained; its release does.
std::uint64_t context_length(const JsonValue& params, double theta, double epsilon, bool scaled) {
  if (const auto given = find_size(params, "max_seq_len")) return *given;
  if (scaled) return 131072;             // Llama 3.1 to 3.3
  if (theta == 1e6) return 16384;        // Code Llama
  if (theta == 5e5) return 8192;         // Llama 3
  return epsilon == 1e-5 ? 4096 : 2048;  // Llama 2, Llama 1
}

/// Llama 3.1's scaling. params.json only says that there is one: its factor is 8, and 32 for the two small
/// models of Llama 3.2.
double scaling_factor(const JsonValue& params, std::uint64_t dim, std::uint64_t n_layers) {
  const bool small = (dim == 2048 && n_layers == 16) || (dim == 3072 && n_layers == 28);
  return number_or(params, "rope_scaling_factor", small ? 32 : 8);
}

void check_variant(const JsonValue& params, const AssembledSource& source) {
  for (const std::string_view key : {"moe", "moe_args", "quantization_args", "lora_args", "vision_encoder",
                                     "vision_chunk_size", "vision_args"}) {
    const auto value = params.find(key);
    if (!value) continue;
    if (value->is(JsonType::integer) && value->as_integer() <= 0) continue;  // switched off
    throw Error(ErrorCode::unsupported_model,
                source.path() + ": params.json: " + std::string(key) + ": a model with it is not supported",
                {{"path", source.path()}, {"key", key}});
  }
}

}  // namespace

MetaParams read_meta_params(const JsonValue& params, AssembledSource* source) {
  check_variant(params, *source);
  const MetaParams read{.dim = size(params.get("dim")), .n_layers = size(params.get("n_layers"))};
  const JsonValue heads_value = params.get("n_heads");
  const std::uint64_t heads = size(heads_value);
  const auto given_head_dim = find_size(params, "head_dim");
  if (!given_head_dim && read.dim % heads != 0)
    heads_value.fail("a divisor of dim " + std::to_string(read.dim), std::to_string(heads));
  const std::uint64_t head_dim = given_head_dim.value_or(read.dim / heads);
  if (head_dim % 2 != 0) heads_value.fail("heads of even size", std::to_string(head_dim));
  const double theta = number_or(params, "rope_theta", 1e4), epsilon = number_or(params, "norm_eps", 1e-5);
  const auto scaled_value = params.find("use_scaled_rope");
  const bool scaled = scaled_value && scaled_value->as_bool();
  if (!(theta >= 1)) params.get("rope_theta").fail("a base of at least 1", number_text(theta));

  source->set_string("general.architecture", "llama");
  source->set_string("general.type", "model");
  source->set_string("general.name", std::filesystem::path(source->path()).filename().string());
  source->set_uint("llama.block_count", read.n_layers);
  source->set_uint("llama.context_length", context_length(params, theta, epsilon, scaled));
  source->set_uint("llama.embedding_length", read.dim);
  source->set_uint("llama.feed_forward_length", ffn_hidden(params, read.dim));
  const auto vocab = params.find("vocab_size");  // -1: that of the tokenizer
  if (vocab && vocab->as_integer() != -1) source->set_uint("llama.vocab_size", size(*vocab));
  source->set_uint("llama.attention.head_count", heads);
  source->set_uint("llama.attention.head_count_kv", find_size(params, "n_kv_heads").value_or(heads));
  source->set_uint("llama.attention.key_length", head_dim);
  source->set_uint("llama.attention.value_length", head_dim);
  source->set_float("llama.attention.layer_norm_rms_epsilon", epsilon);
  if (const auto window = find_size(params, "sliding_window"))
    source->set_uint("llama.attention.sliding_window", *window);
  source->set_uint("llama.rope.dimension_count", head_dim);
  source->set_float("llama.rope.freq_base", theta);
  if (scaled) {
    const double factor = scaling_factor(params, read.dim, read.n_layers);
    add_llama3_factors(theta, head_dim, factor, 1, number_or(params, "rope_high_freq_factor", 4), 8192,
                       source);
  }
  return read;
}

}  // namespace cria
