#include "model/config_keys.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <type_traits>
#include <variant>

#include "io/file_error.h"

namespace cria {
namespace {

// Sources: llama.cpp, src/models/llama.cpp and load_hparams in src/llama-model.cpp;
// gguf-py/gguf/constants.py. What "attention.sliding_window" and "attention.scale" ask for depends on other
// keys: asks_for_something().
constexpr KnownKey kKeys[] = {
    {"context_length", KeyRole::honoured, "tokens that the model was trained for"},
    {"embedding_length", KeyRole::honoured, "size of the hidden state"},
    {"block_count", KeyRole::honoured, "layers"},
    {"feed_forward_length", KeyRole::honoured, "a number, or an array of equal ones"},
    {"vocab_size", KeyRole::honoured, "if present, the rows of token_embd.weight"},
    {"attention.head_count", KeyRole::honoured, "a number, or an array of equal ones"},
    {"attention.head_count_kv", KeyRole::honoured, "likewise; default: head_count"},
    {"attention.key_length", KeyRole::honoured, "head size; default: embedding_length / head_count"},
    {"attention.value_length", KeyRole::honoured, "must be the head size"},
    {"attention.layer_norm_rms_epsilon", KeyRole::honoured, ""},
    {"attention.causal", KeyRole::refused, "false: attention without a causal mask"},
    {"rope.dimension_count", KeyRole::honoured,
     "rotated dimensions; even, at most the head size (llama.cpp: exactly the head size)"},
    {"rope.freq_base", KeyRole::honoured, "default: 10000"},
    {"rope.scaling.type", KeyRole::honoured,
     "none, linear, yarn, longrope; also llama3 (not in llama.cpp); default: linear"},
    {"rope.scaling.factor", KeyRole::honoured, "with every type but none; 0: not set"},
    {"rope.scale_linear", KeyRole::honoured, "older name of rope.scaling.factor, which goes before it"},
    {"rope.scaling.attn_factor", KeyRole::honoured, "factor of cosine and sine, with every type"},
    {"rope.scaling.original_context_length", KeyRole::honoured,
     "yarn, longrope, llama3; default: context_length"},
    {"rope.scaling.low_freq_factor", KeyRole::honoured, "llama3 (not in llama.cpp)"},
    {"rope.scaling.high_freq_factor", KeyRole::honoured, "llama3 (not in llama.cpp)"},
    {"rope.scaling.beta_fast", KeyRole::honoured, "yarn (not in llama.cpp); default: 32"},
    {"rope.scaling.beta_slow", KeyRole::honoured, "yarn (not in llama.cpp); default: 1"},
    {"rope.scaling.finetuned", KeyRole::harmless, "a remark on the training"},
    {"expert_count", KeyRole::honoured, "0: an ordinary feed-forward network; at most 512"},
    {"expert_used_count", KeyRole::honoured, "by each token, 1 to expert_count"},
    {"expert_group_count", KeyRole::refused, "above 1: groups of experts"},
    {"pooling_type", KeyRole::harmless, "of embeddings, not of generation"},
    {"tensor_data_layout", KeyRole::harmless, "a remark of early converters"},
    {"attention.layer_norm_epsilon", KeyRole::harmless, "of LayerNorm, which no Llama has"},
    {"attention.sliding_window", KeyRole::ignored,
     "every token attends to all before it; without a warning where the context is no longer"},
    {"attention.sliding_window_pattern", KeyRole::ignored, ""},
    {"attention.scale", KeyRole::ignored, "the scale is 1 / sqrt(head size)"},
    {"attention.output_scale", KeyRole::ignored, "", 1},
    {"attention.clamp_kqv", KeyRole::ignored, ""},
    {"attention.max_alibi_bias", KeyRole::ignored, ""},
    {"attention.temperature_length", KeyRole::ignored, ""},
    {"attention.temperature_scale", KeyRole::ignored, ""},
    {"attn_logit_softcapping", KeyRole::ignored, ""},
    {"final_logit_softcapping", KeyRole::ignored, ""},
    {"router_logit_softcapping", KeyRole::ignored, ""},
    {"embedding_scale", KeyRole::ignored, "", 1},
    {"residual_scale", KeyRole::ignored, "", 1},
    {"logit_scale", KeyRole::ignored, "", 1},
    {"use_parallel_residual", KeyRole::ignored, ""},
    {"rope.scaling.yarn_ext_factor", KeyRole::ignored, "yarn: the factor is 1", 1},
    {"rope.scaling.yarn_attn_factor", KeyRole::ignored, "yarn: the factor is 0.1 ln(rope.scaling.factor) + 1",
     1},
    {"rope.scaling.yarn_beta_fast", KeyRole::ignored, "yarn: 32", 32},
    {"rope.scaling.yarn_beta_slow", KeyRole::ignored, "yarn: 1", 1},
    {"rope.scaling.yarn_log_multiplier", KeyRole::ignored, ""},
    {"rope.scaling.alpha", KeyRole::ignored, "", 1},
    {"rope.dimension_sections", KeyRole::ignored, ""},
    {"rope.dimension_count_swa", KeyRole::ignored, "of other architectures"},
    {"rope.freq_base_swa", KeyRole::ignored, "of other architectures"},
    {"attention.key_length_swa", KeyRole::ignored, "of other architectures"},
    {"attention.value_length_swa", KeyRole::ignored, "of other architectures"},
    {"attention.key_length_mla", KeyRole::ignored, "of other architectures"},
    {"attention.value_length_mla", KeyRole::ignored, "of other architectures"},
    {"attention.q_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.kv_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.decay_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.iclr_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.value_residual_mix_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.gate_lora_rank", KeyRole::ignored, "of other architectures"},
    {"attention.relative_buckets_count", KeyRole::ignored, "of other architectures"},
    {"attention.group_norm_epsilon", KeyRole::ignored, "of other architectures"},
    {"attention.group_norm_groups", KeyRole::ignored, "of other architectures"},
    {"attention.shared_kv_layers", KeyRole::ignored, "of other architectures"},
    {"attention.recurrent_layers", KeyRole::ignored, "of other architectures"},
    {"attention.indexer.head_count", KeyRole::ignored, "of other architectures"},
    {"attention.indexer.key_length", KeyRole::ignored, "of other architectures"},
    {"attention.indexer.top_k", KeyRole::ignored, "of other architectures"},
    {"embedding_length_out", KeyRole::ignored, "of other architectures"},
    {"embedding_length_per_layer_input", KeyRole::ignored, "of other architectures"},
    {"features_length", KeyRole::ignored, "of other architectures"},
    {"leading_dense_block_count", KeyRole::ignored, "of other architectures"},
    {"expert_feed_forward_length", KeyRole::ignored, "experts have feed_forward_length"},
    {"expert_shared_feed_forward_length", KeyRole::ignored, "of other architectures"},
    {"expert_chunk_feed_forward_length", KeyRole::ignored, "of other architectures"},
    {"expert_shared_count", KeyRole::ignored, "of other architectures"},
    {"expert_group_used_count", KeyRole::ignored, "of other architectures"},
    {"expert_weights_scale", KeyRole::ignored, "of other architectures"},
    {"expert_weights_norm", KeyRole::ignored, "of other architectures"},
    {"expert_gating_func", KeyRole::ignored, "of other architectures"},
    {"expert_group_scale", KeyRole::ignored, "of other architectures"},
    {"experts_per_group", KeyRole::ignored, "of other architectures"},
    {"moe_every_n_layers", KeyRole::ignored, "of other architectures"},
    {"moe_latent_size", KeyRole::ignored, "of other architectures"},
    {"interleave_moe_layer_step", KeyRole::ignored, "of other architectures"},
    {"nextn_predict_layers", KeyRole::ignored, "of other architectures"},
    {"n_deepstack_layers", KeyRole::ignored, "of other architectures"},
    {"decoder_start_token_id", KeyRole::ignored, "of other architectures"},
    {"decoder_block_count", KeyRole::ignored, "of other architectures"},
    {"swin_norm", KeyRole::ignored, "of other architectures"},
    {"rescale_every_n_layers", KeyRole::ignored, "of other architectures"},
    {"time_mix_extra_dim", KeyRole::ignored, "of other architectures"},
    {"time_decay_extra_dim", KeyRole::ignored, "of other architectures"},
    {"token_shift_count", KeyRole::ignored, "of other architectures"},
    {"full_attention_interval", KeyRole::ignored, "of other architectures"},
    {"activation_sparsity_scale", KeyRole::ignored, "of other architectures"},
    {"altup.active_idx", KeyRole::ignored, "of other architectures"},
    {"altup.num_inputs", KeyRole::ignored, "of other architectures"},
    {"swiglu_clamp_exp", KeyRole::ignored, "of other architectures"},
    {"swiglu_clamp_shexp", KeyRole::ignored, "of other architectures"},
    {"dense_2_feat_in", KeyRole::ignored, "of other architectures"},
    {"dense_2_feat_out", KeyRole::ignored, "of other architectures"},
    {"dense_3_feat_in", KeyRole::ignored, "of other architectures"},
    {"dense_3_feat_out", KeyRole::ignored, "of other architectures"},
    {"ssm.conv_kernel", KeyRole::ignored, "of other architectures"},
    {"ssm.inner_size", KeyRole::ignored, "of other architectures"},
    {"ssm.state_size", KeyRole::ignored, "of other architectures"},
    {"ssm.time_step_rank", KeyRole::ignored, "of other architectures"},
    {"ssm.group_count", KeyRole::ignored, "of other architectures"},
    {"ssm.dt_b_c_rms", KeyRole::ignored, "of other architectures"},
    {"kda.head_dim", KeyRole::ignored, "of other architectures"},
    {"wkv.head_size", KeyRole::ignored, "of other architectures"},
    {"posnet.embedding_length", KeyRole::ignored, "of other architectures"},
    {"posnet.block_count", KeyRole::ignored, "of other architectures"},
    {"convnext.embedding_length", KeyRole::ignored, "of other architectures"},
    {"convnext.block_count", KeyRole::ignored, "of other architectures"},
    {"classifier.output_labels", KeyRole::ignored, "of other architectures"},
    {"shortconv.l_cache", KeyRole::ignored, "of other architectures"},
};

constexpr std::string_view kPrefix = "llama.";

std::optional<double> number_of(const GgufValue* value) {
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [](const auto& v) -> std::optional<double> {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(v)>>) return static_cast<double>(v);
        return std::nullopt;
      },
      *value);
}

std::optional<double> find_number(const ModelSource& file, std::string_view name) {
  return number_of(file.find(std::string(kPrefix).append(name)));
}

bool asks_for_something(const GgufValue& value, double neutral) {
  if (const auto* text = std::get_if<std::string>(&value)) return !text->empty();
  if (const auto* array = std::get_if<GgufArray>(&value)) {
    if (array->holds_strings()) return array->size() > 0;
    for (std::size_t i = 0; i < array->size(); i++)
      if (array->number_at(i) != 0 && array->number_at(i) != neutral) return true;
    return false;
  }
  const double number = number_of(&value).value_or(0);
  return number != 0 && number != neutral;
}

bool asks_for_something(const ModelSource& file, const KnownKey& key, const GgufValue& value) {
  const std::optional<double> number = number_of(&value);
  if (number && key.name == "attention.sliding_window")
    return *number > 0 && *number < find_number(file, "context_length").value_or(0);
  if (number && key.name == "attention.scale") {
    const double hidden = find_number(file, "embedding_length").value_or(0),
                 heads = find_number(file, "attention.head_count").value_or(1);
    const double usual = 1 / std::sqrt(find_number(file, "attention.key_length").value_or(hidden / heads));
    return *number != 0 && !(std::abs(*number - usual) <= 1e-6 * usual);
  }
  return asks_for_something(value, key.neutral);
}

std::string text_of(const GgufValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return quote(*text);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (std::holds_alternative<GgufArray>(value)) return "an array";
  return number_text(number_of(&value).value_or(0));
}

}  // namespace

std::string_view name_of(KeyRole role) noexcept {
  switch (role) {
    case KeyRole::honoured: return "honoured";
    case KeyRole::refused: return "refused";
    case KeyRole::ignored: return "ignored";
    case KeyRole::harmless: return "harmless";
  }
  return "";
}

std::span<const KnownKey> known_keys() noexcept { return kKeys; }

std::vector<std::string> key_warnings(const ModelSource& file) {
  std::vector<std::string> warnings;
  const GgufValue* value_of_architecture = file.find("general.architecture");
  const auto* architecture =
      value_of_architecture ? std::get_if<std::string>(value_of_architecture) : nullptr;
  if (architecture == nullptr || *architecture != "llama") return warnings;
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(kPrefix)) continue;
    const std::string_view name = std::string_view(key).substr(kPrefix.size());
    const KnownKey* const known = std::ranges::find(kKeys, name, &KnownKey::name);
    if (known == std::end(kKeys))
      warnings.push_back(quote(key) + " is not known and is ignored");
    else if (known->role == KeyRole::ignored && asks_for_something(file, *known, value))
      warnings.push_back(quote(key) + " is " + text_of(value) +
                         " and is ignored, as llama.cpp ignores it for this architecture");
  }
  return warnings;
}

}  // namespace cria
