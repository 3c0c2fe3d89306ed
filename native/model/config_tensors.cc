// Checks the tensors of a "llama" GGUF against its configuration. The names are those of llama.cpp,
// gguf-py/gguf/constants.py.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "io/file_error.h"
#include "model/config.h"
#include "model/config_error.h"
#include "model/config_experts.h"
#include "model/float_tensor.h"

namespace cria {
namespace {

enum class Kind {
  matrix,
  vector,   // of floats: a norm or a bias
  scale,    // one finite float
  experts,  // a stack of matrices, or a matrix for each expert
};

struct TensorRule {
  std::string name;  // for a layer's tensor, the part after "blk.N."
  Kind kind;
  std::uint64_t cols;  // of a vector: elements
  std::uint64_t rows;  // of a matrix
  bool is_required = true;
  // Of experts: how many there are, and the name of a matrix alone (ExpertTensor::part).
  std::uint64_t n_experts = 1;
  std::string_view part = {};

  std::uint32_t n_dims() const { return kind == Kind::experts ? 3 : kind == Kind::matrix ? 2 : 1; }
};
using TensorRules = std::vector<TensorRule>;

std::string shape_text(const std::uint64_t* dims, std::uint32_t n_dims) {
  std::string text = "[";
  for (std::uint32_t d = 0; d < n_dims; ++d) text += (d == 0 ? "" : ", ") + std::to_string(dims[d]);
  return text + "]";
}

void check_tensor(const ModelSource& file, const GgufTensor& tensor, const TensorRule& rule) {
  const bool is_matrix = rule.kind == Kind::matrix || rule.kind == Kind::experts;
  const std::uint64_t dims[3] = {rule.cols, is_matrix ? rule.rows : 1, rule.n_experts};
  // Writers may drop the last dimensions of a matrix where they are 1.
  const bool fits = is_matrix ? tensor.n_dims <= rule.n_dims() : tensor.n_dims == rule.n_dims();
  if (!fits || !std::equal(dims, dims + 3, tensor.dims)) {
    throw_invalid_tensor(file, tensor.name,
                         "shape " + shape_text(dims, rule.n_dims()) + " (from the metadata)",
                         shape_text(tensor.dims, tensor.n_dims));
  }
  if (!is_matrix) check_float_tensor(file, tensor);
  if (rule.kind == Kind::scale) {
    float scale;
    read_floats(file, tensor, 0, {&scale, 1});
    if (!std::isfinite(scale)) throw_invalid_tensor(file, tensor.name, "a finite scale", number_text(scale));
  }
}

/// The matrices of a layer's experts, one by one, of which the first was found.
void check_single_experts(const ModelSource& file, const std::string& prefix, const TensorRule& rule,
                          const GgufTensor& first) {
  for (std::uint32_t e = 0; e < rule.n_experts; e++) {
    const std::string name = prefix + expert_tensor_name(rule.part, e);
    const GgufTensor* tensor = file.find_tensor(name);
    const std::uint64_t dims[2] = {rule.cols, rule.rows};
    if (tensor == nullptr) throw_invalid_tensor(file, name, "shape " + shape_text(dims, 2), "no such tensor");
    check_tensor(file, *tensor, {.name = name, .kind = Kind::matrix, .cols = rule.cols, .rows = rule.rows});
    if (tensor->dtype != first.dtype) {
      throw_unsupported_tensor(file, name,
                               "the experts of a layer must have one type, found " +
                                   std::string(name_of(tensor->dtype)) + " beside " +
                                   std::string(name_of(first.dtype)));
    }
  }
}

/// `prefix`: "blk.N." or empty.
void check_rules(const ModelSource& file, const std::string& prefix, const TensorRules& rules) {
  for (const TensorRule& rule : rules) {
    const std::string name = prefix + rule.name;
    const GgufTensor* tensor = file.find_tensor(name);
    const GgufTensor* single = tensor == nullptr && rule.kind == Kind::experts
                                   ? file.find_tensor(prefix + expert_tensor_name(rule.part, 0))
                                   : nullptr;
    if (tensor != nullptr) {
      check_tensor(file, *tensor, rule);
    } else if (single != nullptr) {
      check_single_experts(file, prefix, rule, *single);
    } else if (rule.is_required) {
      const std::uint64_t dims[3] = {rule.cols, rule.rows, rule.n_experts};
      throw_invalid_tensor(file, name, "shape " + shape_text(dims, rule.n_dims()), "no such tensor");
    }
  }
}

/// A matrix, and what may stand beside it: the bias and the scale of its products, and a scale of their
/// input, which concerns the quantization of activations to 4 bits and nothing here.
void add_matrix(TensorRules& rules, const std::string& name, std::uint64_t cols, std::uint64_t rows) {
  rules.push_back({name + ".weight", Kind::matrix, cols, rows});
  rules.push_back({name + ".bias", Kind::vector, rows, 1, false});
  rules.push_back({name + ".scale", Kind::scale, 1, 1, false});
  rules.push_back({name + ".input_scale", Kind::scale, 1, 1, false});
}

void add_experts(TensorRules& rules, const ExpertTensor& tensor, std::uint64_t n_experts, std::uint64_t cols,
                 std::uint64_t rows) {
  rules.push_back({.name = std::string(tensor.stacked) + ".weight",
                   .kind = Kind::experts,
                   .cols = cols,
                   .rows = rows,
                   .n_experts = n_experts,
                   .part = tensor.part});
}

/// The tensors of a layer whose q, k and v are one matrix, or three.
TensorRules layer_rules(const ModelConfig& config, bool has_fused_qkv) {
  const std::uint64_t hidden = config.hidden;
  const std::uint64_t q_size = std::uint64_t{config.n_heads} * config.head_dim;
  const std::uint64_t kv_size = std::uint64_t{config.n_kv_heads} * config.head_dim;
  TensorRules rules = {{"attn_norm.weight", Kind::vector, hidden, 1}};
  if (has_fused_qkv) {
    add_matrix(rules, "attn_qkv", hidden, q_size + 2 * kv_size);
  } else {
    add_matrix(rules, "attn_q", hidden, q_size);
    add_matrix(rules, "attn_k", hidden, kv_size);
    add_matrix(rules, "attn_v", hidden, kv_size);
  }
  add_matrix(rules, "attn_output", q_size, hidden);
  rules.push_back({"ffn_norm.weight", Kind::vector, hidden, 1});
  if (config.n_experts > 0) {
    rules.push_back({"ffn_gate_inp.weight", Kind::matrix, hidden, config.n_experts});
    add_experts(rules, kGateExperts, config.n_experts, hidden, config.ffn_hidden);
    add_experts(rules, kUpExperts, config.n_experts, hidden, config.ffn_hidden);
    add_experts(rules, kDownExperts, config.n_experts, config.ffn_hidden, hidden);
    return rules;
  }
  add_matrix(rules, "ffn_gate", hidden, config.ffn_hidden);
  add_matrix(rules, "ffn_up", hidden, config.ffn_hidden);
  add_matrix(rules, "ffn_down", config.ffn_hidden, hidden);
  return rules;
}

TensorRules model_rules(const ModelConfig& config) {
  TensorRules rules = {{"token_embd.weight", Kind::matrix, config.hidden, config.vocab_size},
                       {"output_norm.weight", Kind::vector, config.hidden, 1}};
  if (!config.tied_output) {
    rules.push_back({"output.weight", Kind::matrix, config.hidden, config.vocab_size});
    rules.push_back({"output.scale", Kind::scale, 1, 1, false});
    rules.push_back({"output.input_scale", Kind::scale, 1, 1, false});
  }
  return rules;
}

bool has_rule(const TensorRules& rules, std::string_view name) {
  for (const TensorRule& rule : rules)
    if (rule.name == name) return true;
  return false;
}

std::string layer_prefix(std::uint64_t layer) { return "blk." + std::to_string(layer) + "."; }

bool has_fused_qkv(const ModelSource& file, std::uint64_t layer) {
  return file.find_tensor(layer_prefix(layer) + "attn_qkv.weight") != nullptr;
}

struct LayerName {
  std::uint64_t layer;
  std::string_view rest;  // after "blk.N."
};

/// Splits "blk.<n>.<rest>"; nothing for any other name, including a number with leading zeros ("blk.01.").
std::optional<LayerName> parse_layer_name(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  std::uint64_t layer = 0;
  const auto [after, error] = std::from_chars(begin, end, layer);
  if (error != std::errc() || after == end || *after != '.') return std::nullopt;
  if (*begin == '0' && after - begin > 1) return std::nullopt;
  return LayerName{layer, {after + 1, static_cast<std::size_t>(end - after - 1)}};
}

// Tensors outside the layers that change what a model computes. Others there do not concern the decoder.
constexpr std::string_view kRefusedPrefixes[] = {
    "output.",      "output_norm.",   "output_hc_", "token_embd.", "token_embd_norm.",
    "token_types.", "position_embd.", "enc.",       "dec.",        "cls.",
};

// Written by early converters; the values follow from the metadata.
constexpr std::string_view kHarmlessInLayer[] = {"attn_rot_embd", "attn_rot_embd.weight"};

void check_layer_tensor(const ModelSource& file, const ModelConfig& config, std::string_view name,
                        const TensorRules& separate, const TensorRules& fused) {
  const auto parsed = parse_layer_name(name);
  if (!parsed) throw_unsupported_tensor(file, name, "expected a name like \"blk.0.attn_q.weight\"");
  if (parsed->layer >= config.n_layers) {
    throw_invalid_tensor(
        file, name,
        "a layer below " + config.architecture + ".block_count, which is " + std::to_string(config.n_layers),
        "layer " + std::to_string(parsed->layer));
  }
  const bool is_fused = has_fused_qkv(file, parsed->layer);
  if (has_rule(is_fused ? fused : separate, parsed->rest)) return;
  if (is_expert_tensor(parsed->rest, config.n_experts)) return;
  for (const std::string_view harmless : kHarmlessInLayer)
    if (harmless == parsed->rest) return;
  const std::string qkv = quote(layer_prefix(parsed->layer) + "attn_qkv.weight");
  if (has_rule(is_fused ? separate : fused, parsed->rest))
    throw_invalid_tensor(file, name, is_fused ? "no such tensor beside " + qkv : "it to stand beside " + qkv,
                         is_fused ? "both" : "no such tensor");
  throw_unsupported_tensor(file, name, "a Llama with this tensor in its layers is not supported");
}

// Read with the metadata (config_rope.cc).
constexpr std::string_view kRopeFactors[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                             "rope_factors_short.weight"};

/// Returns the names that mean nothing here.
std::vector<std::string_view> check_known(const ModelSource& file, const ModelConfig& config,
                                          const TensorRules& model, const TensorRules& separate,
                                          const TensorRules& fused) {
  std::vector<std::string_view> unknown;
  for (const GgufTensor& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    if (name.starts_with("blk.")) {
      check_layer_tensor(file, config, name, separate, fused);
      continue;
    }
    if (has_rule(model, name) || std::ranges::find(kRopeFactors, name) != std::end(kRopeFactors)) continue;
    for (const std::string_view prefix : kRefusedPrefixes)
      if (name.starts_with(prefix))
        throw_unsupported_tensor(file, name, "a Llama with this tensor is not supported");
    unknown.push_back(name);
  }
  return unknown;
}

}  // namespace

void check_tensors(const ModelSource& file, ModelConfig* checked) {
  const ModelConfig& config = *checked;
  const TensorRules model = model_rules(config), separate = layer_rules(config, false),
                    fused = layer_rules(config, true);
  // Unknown tensors first: the tensors of an unsupported variant explain more than a missing one.
  for (const std::string_view name : check_known(file, config, model, separate, fused))
    checked->warnings.push_back("tensor " + quote(name) + " is not known and is ignored");
  check_rules(file, "", model);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer)
    check_rules(file, layer_prefix(layer), has_fused_qkv(file, layer) ? fused : separate);
}

}  // namespace cria
