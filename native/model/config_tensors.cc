// Checks the tensors of a "llama" GGUF against its configuration. The names are those of llama.cpp,
// gguf-py/gguf/constants.py.
#include <charconv>
#include <optional>

#include "io/file_error.h"
#include "model/config.h"
#include "model/config_error.h"

namespace cria {
namespace {

enum class Kind { matrix, norm };

struct TensorRule {
  std::string_view name;  // for a layer's tensor, the part after "blk.N."
  Kind kind;
  std::uint64_t cols;
  std::uint64_t rows;  // matrices only
};

std::string shape_text(const std::uint64_t* dims, std::uint32_t n_dims) {
  std::string text = "[";
  for (std::uint32_t d = 0; d < n_dims; ++d) text += (d == 0 ? "" : ", ") + std::to_string(dims[d]);
  return text + "]";
}

void check_tensor(const ModelSource& file, const GgufTensor& tensor, const TensorRule& rule) {
  const std::uint32_t n_dims = rule.kind == Kind::norm ? 1 : 2;
  const std::uint64_t dims[2] = {rule.cols, rule.kind == Kind::norm ? 1 : rule.rows};
  if (tensor.n_dims != n_dims || tensor.dims[0] != dims[0] || tensor.dims[1] != dims[1]) {
    throw_invalid_tensor(file, tensor.name, "shape " + shape_text(dims, n_dims) + " (from the metadata)",
                         shape_text(tensor.dims, tensor.n_dims));
  }
  if (rule.kind == Kind::norm && tensor.dtype != DType::f32) {
    throw_unsupported_tensor(file, tensor.name,
                             "norm weights must be F32, found " + std::string(name_of(tensor.dtype)));
  }
}

void check_required(const ModelSource& file, const std::string& name, const TensorRule& rule) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) {
    const std::uint64_t dims[2] = {rule.cols, rule.rows};
    throw_invalid_tensor(file, name, "shape " + shape_text(dims, rule.kind == Kind::norm ? 1 : 2),
                         "no such tensor");
  }
  check_tensor(file, *tensor, rule);
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

// Tensors outside the layers that change what a model computes. Others there do not concern the decoder (e.g.
// "rope_freqs.weight", which is read with the metadata).
constexpr std::string_view kRefusedPrefixes[] = {
    "output.bias",  "output.scale",   "output_norm.bias", "token_embd_norm.",
    "token_types.", "position_embd.", "rope_factors_",    "enc.",
    "dec.",         "cls.",           "token_embd.bias",  "output_hc_",
};

// Written by early converters; the values follow from the metadata.
constexpr std::string_view kHarmlessInLayer[] = {"attn_rot_embd", "attn_rot_embd.weight"};

template <std::size_t N>
void check_known(const ModelSource& file, const ModelConfig& config, const TensorRule (&layer_rules)[N]) {
  for (const GgufTensor& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    if (!name.starts_with("blk.")) {
      for (const std::string_view prefix : kRefusedPrefixes)
        if (name.starts_with(prefix))
          throw_unsupported_tensor(file, name, "a Llama with this tensor is not supported");
      continue;
    }
    const auto parsed = parse_layer_name(name);
    if (!parsed) throw_unsupported_tensor(file, name, "expected a name like \"blk.0.attn_q.weight\"");
    if (parsed->layer >= config.n_layers) {
      throw_invalid_tensor(file, name,
                           "a layer below " + config.architecture + ".block_count, which is " +
                               std::to_string(config.n_layers),
                           "layer " + std::to_string(parsed->layer));
    }
    bool known = false;
    for (const TensorRule& rule : layer_rules) known = known || rule.name == parsed->rest;
    for (const std::string_view harmless : kHarmlessInLayer) known = known || harmless == parsed->rest;
    if (!known) {
      const bool bias = parsed->rest.ends_with(".bias");
      throw_unsupported_tensor(file, name,
                               bias ? "a Llama with biases is not supported"
                                    : "a Llama with this tensor in its layers is not supported");
    }
  }
}

}  // namespace

void check_tensors(const ModelSource& file, const ModelConfig& config) {
  const std::uint64_t hidden = config.hidden;
  const std::uint64_t q_size = std::uint64_t{config.n_heads} * config.head_dim;
  const std::uint64_t kv_size = std::uint64_t{config.n_kv_heads} * config.head_dim;
  const TensorRule model_rules[] = {
      {"token_embd.weight", Kind::matrix, hidden, config.vocab_size},
      {"output_norm.weight", Kind::norm, hidden, 1},
  };
  const TensorRule output_rule = {"output.weight", Kind::matrix, hidden, config.vocab_size};
  const TensorRule layer_rules[] = {
      {"attn_norm.weight", Kind::norm, hidden, 1},
      {"attn_q.weight", Kind::matrix, hidden, q_size},
      {"attn_k.weight", Kind::matrix, hidden, kv_size},
      {"attn_v.weight", Kind::matrix, hidden, kv_size},
      {"attn_output.weight", Kind::matrix, q_size, hidden},
      {"ffn_norm.weight", Kind::norm, hidden, 1},
      {"ffn_gate.weight", Kind::matrix, hidden, config.ffn_hidden},
      {"ffn_up.weight", Kind::matrix, hidden, config.ffn_hidden},
      {"ffn_down.weight", Kind::matrix, config.ffn_hidden, hidden},
  };
  // Unknown tensors first: the tensors of an unsupported variant explain more than a missing one.
  check_known(file, config, layer_rules);
  for (const TensorRule& rule : model_rules) check_required(file, std::string(rule.name), rule);
  if (!config.tied_output) check_required(file, std::string(output_rule.name), output_rule);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    for (const TensorRule& rule : layer_rules) check_required(file, prefix + std::string(rule.name), rule);
  }
}

}  // namespace cria
