#include "io/hf_tensors.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "io/file_error.h"
#include "io/llama_tensors.h"
#include "io/name_index.h"

namespace cria {
namespace {

/// Suffixes of what belongs to another tensor, or what only other programs need: scales of FP8, which their
/// matrix names; those of activations and of the KV cache, which are not quantized here; and RoPE's
/// frequencies, which follow from the configuration.
constexpr std::string_view kScaleSuffixes[] = {"_scale", "_scale_inv"};
constexpr std::string_view kIgnoredSuffixes[] = {
    ".input_scale", ".input_scale_ub", ".activation_scale",    ".output_scale",
    ".k_scale",     ".v_scale",        ".rotary_emb.inv_freq",
};

std::string_view name_of_stored(const StoredTensor& tensor) { return tensor.name; }

class HfTensors {
 public:
  HfTensors(std::vector<StoredTensor> stored, const HfConfig& config, const HfQuantization& quantization,
            AssembledSource* source)
      : stored_(std::move(stored)),
        order_(sorted_by_name(stored_, name_of_stored)),
        used_(stored_.size()),
        config_(config),
        quantization_(quantization),
        source_(*source) {
    if (const auto twice = first_duplicate(stored_, order_, name_of_stored))
      fail(stored_[twice->first].name, "one tensor of the name", "two, in two files");
  }

  void add_all() {
    add_matrix(std::string(kEmbeddingName.hf), std::string(kEmbeddingName.gguf));
    for (std::uint64_t layer = 0; layer < config_.n_layers; ++layer) add_layer(layer);
    add_vector(std::string(kOutputNormName.hf) + ".weight", std::string(kOutputNormName.gguf) + ".weight");
    const std::string head = std::string(kOutputName.hf);
    if (config_.tied) {
      (void)find(head + ".weight");  // transformers ignores it as well
    } else {
      add_matrix(head, std::string(kOutputName.gguf));
    }
    check_unused();
  }

 private:
  void add_layer(std::uint64_t layer) {
    const std::string number = std::to_string(layer);
    const std::string hf = "model.layers." + number + ".", gguf = "blk." + number + ".";
    for (const LlamaTensorName& name : kLayerNames) {
      const std::string from = hf + std::string(name.hf), to = gguf + std::string(name.gguf);
      if (name.split == MetaSplit::none) {
        add_vector(from + ".weight", to + ".weight");
        continue;
      }
      const bool attention = name.gguf.starts_with("attn_");
      if (!attention && config_.n_experts > 0) continue;
      const bool rotated = name.gguf == "attn_q" || name.gguf == "attn_k";
      add_matrix(from, to, rotated);
      if (attention ? config_.attention_bias : config_.mlp_bias)
        add_vector(from + ".bias", to + ".bias", rotated);
    }
    if (config_.n_experts > 0) add_experts(hf + "block_sparse_moe.", gguf);
  }

  /// Mixtral's w1, w3 and w2 of each expert, one behind the other.
  void add_experts(const std::string& hf, const std::string& gguf) {
    constexpr std::pair<std::string_view, std::string_view> kNames[] = {
        {"ffn_gate_exps", "w1"}, {"ffn_up_exps", "w3"}, {"ffn_down_exps", "w2"}};
    const StoredTensor& router = require(hf + "gate.weight");
    check_rank(router, 2);
    add(gguf + "ffn_gate_inp.weight", DType::f32, {router.shape[1], router.shape[0]}, {.parts = {router}});
    for (const auto& [to, from] : kNames) {
      Assembly assembly;
      for (std::uint64_t expert = 0; expert < config_.n_experts; ++expert)
        add_part(hf + "experts." + std::to_string(expert) + "." + std::string(from), &assembly);
      if (assembly.parts.empty()) return;
      const StoredTensor& first = assembly.parts.front();
      add(gguf + std::string(to) + ".weight", dtype_of(first, source_.path()),
          {first.shape[1], first.shape[0], config_.n_experts}, std::move(assembly));
    }
  }

  /// Adds the matrix `from`.weight, with its scales if it has any.
  void add_part(const std::string& from, Assembly* assembly) {
    const StoredTensor& weight = require(from + ".weight");
    check_rank(weight, 2);
    assembly->parts.push_back(weight);
    if (weight.type != StoredType::f8_e4m3) return;
    const StoredTensor* scale = nullptr;
    for (const std::string_view suffix : kScaleSuffixes)
      if (scale == nullptr) scale = find(weight.name + std::string(suffix));
    if (scale == nullptr) fail(weight.name + "_scale", "the scales of an FP8 matrix", "no such tensor");
    assembly->scales.push_back(read_fp8_scales(weight, *scale, quantization_, source_));
  }

  void add_matrix(const std::string& from, const std::string& to, bool rotated = false) {
    Assembly assembly;
    add_part(from, &assembly);
    assembly.rope_head_dim = rotated ? config_.head_dim : 0;
    const StoredTensor& part = assembly.parts.front();
    add(to + ".weight", dtype_of(part, source_.path()), {part.shape[1], part.shape[0]}, std::move(assembly));
  }

  void add_vector(const std::string& from, const std::string& to, bool rotated = false) {
    const StoredTensor& vector = require(from);
    check_rank(vector, 1);
    if (vector.type == StoredType::f8_e4m3) fail(from, "F32, F16 or BF16", "F8_E4M3");
    (void)dtype_of(vector, source_.path());
    Assembly assembly{.parts = {vector}};
    assembly.rope_head_dim = rotated ? config_.head_dim : 0;
    add(to, DType::f32, {vector.shape[0]}, std::move(assembly));
  }

  void add(std::string name, DType dtype, const std::vector<std::uint64_t>& dims, Assembly assembly) {
    source_.add_tensor(std::move(name), dtype, dims, std::move(assembly));
  }

  /// Marks the tensor as used.
  const StoredTensor* find(std::string_view name) {
    const auto at =
        std::lower_bound(order_.begin(), order_.end(), name,
                         [&](std::uint32_t i, std::string_view wanted) { return stored_[i].name < wanted; });
    if (at == order_.end() || stored_[*at].name != name) return nullptr;
    used_[*at] = true;
    return &stored_[*at];
  }

  const StoredTensor& require(const std::string& name) {
    const StoredTensor* tensor = find(name);
    if (tensor == nullptr) fail(name, "a tensor that config.json implies", "no such tensor");
    return *tensor;
  }

  void check_rank(const StoredTensor& tensor, std::size_t rank) const {
    if (tensor.shape.size() != rank)
      fail(tensor.name, std::to_string(rank) + (rank == 1 ? " dimension" : " dimensions"),
           "shape " + shape_text(tensor.shape));
  }

  /// A tensor that nothing used may change what the model computes.
  void check_unused() const {
    for (std::size_t i = 0; i < stored_.size(); ++i) {
      const std::string_view name = stored_[i].name;
      const bool ignored = std::any_of(std::begin(kIgnoredSuffixes), std::end(kIgnoredSuffixes),
                                       [&](std::string_view suffix) { return name.ends_with(suffix); });
      if (used_[i] || ignored) continue;
      if (name.ends_with(".bias")) fail(name, "no bias, by attention_bias and mlp_bias", "one");
      throw Error(ErrorCode::unsupported_model,
                  source_.path() + ": tensor " + quote(name) + ": a model with this tensor is not supported",
                  {{"path", source_.path()}, {"tensor", name}});
    }
  }

  [[noreturn]] void fail(std::string_view tensor, const std::string& expected,
                         const std::string& found) const {
    throw Error(ErrorCode::invalid_model,
                source_.path() + ": tensor " + quote(tensor) + ": expected " + expected + ", found " + found,
                {{"path", source_.path()}, {"tensor", tensor}, {"expected", expected}, {"found", found}});
  }

  std::vector<StoredTensor> stored_;
  std::vector<std::uint32_t> order_;
  std::vector<bool> used_;
  const HfConfig& config_;
  const HfQuantization& quantization_;
  AssembledSource& source_;
};

}  // namespace

void add_hf_tensors(std::vector<StoredTensor> stored, const HfConfig& config,
                    const HfQuantization& quantization, AssembledSource* source) {
  HfTensors(std::move(stored), config, quantization, source).add_all();
}

}  // namespace cria
