// Metadata -> checked configuration. The names of the keys are those of the GGUF specification, section
// "LLM"; their meaning is that of llama.cpp's architecture "llama" (config_keys.h).
#include "model/config.h"

#include <limits>

#include "io/file_error.h"
#include "model/config_error.h"
#include "model/config_experts.h"
#include "model/config_keys.h"
#include "model/config_rope.h"

namespace cria {
namespace {

// Far beyond any Llama. Within these limits the product of any two sizes fits 64 bits with room to spare.
constexpr std::uint64_t kMaxVocab = 1 << 22;
constexpr std::uint64_t kMaxHidden = 1 << 20;
constexpr std::uint64_t kMaxLayers = 1024;
constexpr std::uint64_t kMaxHeads = 1024;
constexpr std::uint64_t kMaxHeadDim = 1024;
constexpr std::uint64_t kMaxFfn = 1 << 22;
constexpr std::uint64_t kMaxContext = 1 << 24;

std::string key_of(const ModelConfig& config, std::string_view suffix) {
  return config.architecture + "." + std::string(suffix);
}

/// An integer that a file may also store per layer, as an array; its elements must then all be equal.
std::optional<std::uint64_t> find_uniform_uint(const ModelSource& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(value);
  if (array == nullptr) return file.find_uint(key);
  if (array->size() == 0) throw_invalid_key(file, key, "a positive integer", "an empty array");
  const std::int64_t first = array->integer_at(0);
  for (std::size_t i = 1; i < array->size(); ++i) {
    const std::int64_t other = array->integer_at(i);
    if (other != first) {
      throw_unsupported_key(file, key, "layers of different sizes are not supported",
                            std::to_string(first) + " in layer 0 and " + std::to_string(other) +
                                " in layer " + std::to_string(i));
    }
  }
  if (first < 0) throw_invalid_key(file, key, "a positive integer", std::to_string(first));
  return static_cast<std::uint64_t>(first);
}

std::uint32_t check_size(const ModelSource& file, const std::string& key, std::uint64_t value,
                         std::uint64_t max) {
  if (value < 1 || value > max)
    throw_invalid_key(file, key, "1 to " + std::to_string(max), std::to_string(value));
  return static_cast<std::uint32_t>(value);
}

std::uint32_t read_size(const ModelSource& file, const std::string& key, std::uint64_t max) {
  const auto value = find_uniform_uint(file, key);
  if (!value) throw_invalid_key(file, key, "a positive integer", "nothing: the key is missing");
  return check_size(file, key, *value, max);
}

void check_kind_of_file(const ModelSource& file, const ModelConfig& config) {
  const std::string type = file.find_string("general.type").value_or("model");
  if (type != "model")
    throw_unsupported_key(file, "general.type", "only whole models are supported", quote(type));
  if (config.architecture != "llama") {
    throw_unsupported_key(file, "general.architecture",
                          "this architecture is not supported; cria runs Llama models (\"llama\")",
                          quote(config.architecture));
  }
  if (file.tensors().empty()) {
    throw Error(ErrorCode::invalid_model,
                file.path() + ": expected a model, found a vocabulary without tensors",
                {{"path", file.path()}, {"expected", "tensors"}, {"found", "none"}});
  }
}

/// Refuses variants that share the name "llama" but compute something else.
void check_variant(const ModelSource& file, const ModelConfig& config) {
  const std::string causal = key_of(config, "attention.causal");
  if (const auto flag = file.find_bool(causal); flag && !*flag)
    throw_unsupported_key(file, causal, "attention without a causal mask is not supported", "false");
}

void read_heads(const ModelSource& file, ModelConfig* config) {
  const std::string heads = key_of(*config, "attention.head_count");
  config->n_heads = read_size(file, heads, kMaxHeads);
  const std::string kv_heads = key_of(*config, "attention.head_count_kv");
  config->n_kv_heads =
      check_size(file, kv_heads, find_uniform_uint(file, kv_heads).value_or(config->n_heads), kMaxHeads);
  if (config->n_heads % config->n_kv_heads != 0) {
    throw_invalid_key(file, kv_heads, "a divisor of the " + std::to_string(config->n_heads) + " heads",
                      std::to_string(config->n_kv_heads));
  }

  const std::string key_length = key_of(*config, "attention.key_length");
  const std::string value_length = key_of(*config, "attention.value_length");
  const auto given = find_uniform_uint(file, key_length);
  if (given) {
    config->head_dim = check_size(file, key_length, *given, kMaxHeadDim);
  } else {
    if (config->hidden % config->n_heads != 0) {
      throw_invalid_key(file, heads,
                        "a divisor of the embedding length " + std::to_string(config->hidden) + " (or a " +
                            key_length + ")",
                        std::to_string(config->n_heads));
    }
    config->head_dim = check_size(file, heads, config->hidden / config->n_heads, kMaxHeadDim);
  }
  if (const auto value_dim = find_uniform_uint(file, value_length);
      value_dim && *value_dim != config->head_dim) {
    throw_unsupported_key(
        file, value_length,
        "values of another size than keys (" + std::to_string(config->head_dim) + ") are not supported",
        std::to_string(*value_dim));
  }
  if (config->head_dim % 2 != 0) {
    throw_invalid_key(file, given ? key_length : heads, "an even head size",
                      std::to_string(config->head_dim));
  }
}

/// The size of the vocabulary: the rows of the embedding, with which the metadata and the tokens must agree.
std::uint32_t read_vocab_size(const ModelSource& file, const ModelConfig& config) {
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr)
    throw_invalid_tensor(file, "token_embd.weight", "the embedding", "no such tensor");
  if (embedding->n_dims != 2) {
    throw_invalid_tensor(file, embedding->name, "2 dimensions", std::to_string(embedding->n_dims));
  }
  const std::uint64_t rows = embedding->dims[1];
  if (rows > kMaxVocab) {
    throw_invalid_tensor(file, embedding->name, "at most " + std::to_string(kMaxVocab) + " rows",
                         std::to_string(rows));
  }
  const std::string expected = std::to_string(rows) + ", the rows of token_embd.weight";
  const std::string key = key_of(config, "vocab_size");
  if (const auto size = file.find_uint(key); size && *size != rows)
    throw_invalid_key(file, key, expected, std::to_string(*size));
  const GgufArray* tokens = file.find_array("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->size() != rows) {
    throw_invalid_key(file, "tokenizer.ggml.tokens", expected, std::to_string(tokens->size()) + " tokens");
  }
  return static_cast<std::uint32_t>(rows);
}

float read_epsilon(const ModelSource& file, const ModelConfig& config) {
  const std::string key = key_of(config, "attention.layer_norm_rms_epsilon");
  const double epsilon = file.get_float(key);
  // False for NaN too; the lower bound keeps the float above zero.
  if (!(epsilon >= std::numeric_limits<float>::min() && epsilon < 1))
    throw_invalid_key(file, key, "a number above 0 and below 1", number_text(epsilon));
  return static_cast<float>(epsilon);
}

}  // namespace

ModelConfig read_config(const ModelSource& file, std::int64_t context_length) {
  ModelConfig config;
  config.architecture = file.get_string("general.architecture");
  config.name = file.find_string("general.name").value_or("");
  check_kind_of_file(file, config);
  config.hidden = read_size(file, key_of(config, "embedding_length"), kMaxHidden);
  config.n_layers = read_size(file, key_of(config, "block_count"), kMaxLayers);
  config.ffn_hidden = read_size(file, key_of(config, "feed_forward_length"), kMaxFfn);
  config.context_length = read_size(file, key_of(config, "context_length"), kMaxContext);
  read_heads(file, &config);
  read_experts(file, &config);
  config.rms_norm_eps = read_epsilon(file, config);
  check_variant(file, config);
  config.vocab_size = read_vocab_size(file, config);
  config.tied_output = file.find_tensor("output.weight") == nullptr;
  read_rope(file, context_length, &config);
  config.warnings = key_warnings(file);
  check_tensors(file, &config);
  return config;
}

}  // namespace cria
