#include "convert/mix.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

/// What a tensor is for. Values of attention count as `value` even where they are fused with q and k.
enum class Role { embedding, output, query, key, value, attention_output, gate, up, down, other };

Role role_of(std::string_view name) {
  const auto contains = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "output.weight") return Role::output;
  if (name == "token_embd.weight") return Role::embedding;
  if (contains("attn_qkv.weight") || contains("attn_v.weight")) return Role::value;
  if (contains("attn_k.weight")) return Role::key;
  if (contains("attn_q.weight")) return Role::query;
  if (contains("attn_output.weight")) return Role::attention_output;
  if (contains("ffn_up")) return Role::up;
  if (contains("ffn_gate")) return Role::gate;
  if (contains("ffn_down")) return Role::down;
  return Role::other;
}

/// The layer of "blk.<n>.<rest>", or nothing.
std::optional<int> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int layer = 0;
  const char* const end = name.data() + name.size();
  const auto [after, error] = std::from_chars(name.data() + kPrefix.size(), end, layer);
  if (error != std::errc() || after == end || *after != '.') return std::nullopt;
  return layer;
}

template <class... T>
bool is_any(FileType type, T... types) {
  return ((type == types) || ...);
}
bool is_two_bit_iq(FileType t) {
  return is_any(t, FileType::iq2_xxs, FileType::iq2_xs, FileType::iq2_s, FileType::iq2_m, FileType::iq1_s,
                FileType::iq1_m);
}
/// The larger two of the two-bit codebook types.
bool is_iq2_s_or_m(FileType t) { return is_any(t, FileType::iq2_s, FileType::iq2_m); }

/// The facts about a model that the rules look at.
struct MixModel {
  int n_layers;
  int n_experts;
  std::uint64_t queries_per_key;
  bool is_70b;  // Llama 2 and 3 of 80 layers with grouped queries
  bool is_tied;
};

MixModel describe(const ModelSource& model) {
  const std::string prefix = model.get_string("general.architecture") + ".";
  // An array where layers differ: the first layer's then.
  const auto heads = [&](const std::string& key) -> std::optional<std::uint64_t> {
    const GgufValue* value = model.find(key);
    if (value == nullptr) return std::nullopt;
    if (const auto* array = std::get_if<GgufArray>(value))
      return array->size() > 0 ? static_cast<std::uint64_t>(std::max<std::int64_t>(array->integer_at(0), 0))
                               : 0;
    return model.get_uint(key);
  };
  const std::uint64_t n_layers = model.get_uint(prefix + "block_count");
  const std::uint64_t n_heads = heads(prefix + "attention.head_count").value_or(0);
  const std::uint64_t n_kv_heads = heads(prefix + "attention.head_count_kv").value_or(n_heads);
  const std::uint64_t n_experts = model.find_uint(prefix + "expert_count").value_or(0);
  constexpr std::uint64_t kMax = 1 << 16;
  if (n_layers > kMax || n_experts > kMax || n_heads == 0 || n_kv_heads == 0)
    throw Error(ErrorCode::invalid_model,
                model.path() + ": " + prefix + "block_count, attention.head_count and expert_count do not " +
                    "describe a transformer",
                {{"path", model.path()}, {"layers", n_layers}, {"heads", n_heads}, {"experts", n_experts}});
  return {.n_layers = static_cast<int>(n_layers),
          .n_experts = static_cast<int>(n_experts),
          .queries_per_key = n_heads / n_kv_heads,
          .is_70b = n_layers == 80 && n_heads != n_kv_heads && n_experts != 8,
          .is_tied = model.find_tensor("output.weight") == nullptr};
}

/// Applies the rules to the tensors of a model, layer by layer.
class Mixer {
 public:
  Mixer(const MixModel& model, FileType type, bool has_importance, int n_values)
      : model_(model), type_(type), has_importance_(has_importance), n_values_(n_values) {}

  DType choose(const GgufTensor& tensor) {
    const DType base = traits_of(type_).dtype;
    if (traits_of(base).block_size == 1) return base;
    const Role role = role_of(tensor.name);
    if (role == Role::output || (role == Role::embedding && model_.is_tied)) return output(tensor, base);
    if (type_ == FileType::mxfp4_moe) return tensor.dims[2] > 1 ? DType::mxfp4 : DType::q8_0;
    if (role == Role::embedding) return embedding(base);
    if (is_two_bit_iq(type_)) return two_bit_iq(role, base);
    switch (role) {
      case Role::value: return value(base);
      case Role::key:
      case Role::query: return query_or_key(role, base);
      case Role::down: return down(layer(tensor, n_down_), base);
      case Role::attention_output: return attention_output(base);
      case Role::gate: return gate_or_up(layer(tensor, n_gate_), base);
      case Role::up: return gate_or_up(layer(tensor, n_up_), base);
      default: return base;
    }
  }

 private:
  bool is(FileType type) const { return type_ == type; }
  bool has_grouped_queries() const { return model_.queries_per_key >= 4; }
  bool is_mixtral() const { return model_.n_experts == 8; }
  int eighth() const { return model_.n_layers / 8; }
  /// The first and the last eighth of n layers, and every third one in between.
  static bool gets_more_bits(int i, int n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

  /// The layer of a feed-forward tensor: the how-manieth of its kind, or, since experts may lie in separate
  /// tensors, the one that its name states.
  int layer(const GgufTensor& tensor, int& counter) {
    const int counted = counter++;
    if (model_.n_experts <= 1) return counted;
    return layer_of(tensor.name).value_or(counted);
  }

  DType output(const GgufTensor& tensor, DType base) const {
    if (is(FileType::mxfp4_moe) || tensor.dims[0] % traits_of(base).block_size != 0) return DType::q8_0;
    if (is_two_bit_iq(type_) || is(FileType::iq3_xxs)) return DType::q5_k;
    return base == DType::q8_0 ? base : DType::q6_k;
  }

  DType embedding(DType base) const {
    if (is_iq2_s_or_m(type_) || is(FileType::iq3_xxs)) return DType::iq3_s;
    if (is_two_bit_iq(type_)) return DType::q2_k;
    if (is_any(type_, FileType::tq1_0, FileType::tq2_0, FileType::q2_0)) return DType::q4_k;
    return base;
  }

  DType two_bit_iq(Role role, DType base) {
    const bool larger = is_iq2_s_or_m(type_);
    switch (role) {
      case Role::value:
        if (has_grouped_queries() || model_.n_experts >= 4) return DType::q4_k;
        return larger ? DType::iq3_s : DType::q2_k;
      case Role::key: return is_mixtral() ? DType::q4_k : base;
      case Role::down: return n_down_++ < eighth() ? (larger ? DType::iq3_s : DType::q2_k) : base;
      case Role::attention_output:
        if (is_mixtral()) return DType::q5_k;
        if (is_any(type_, FileType::iq1_s, FileType::iq1_m)) return DType::iq2_xxs;
        return larger ? DType::iq3_s : base;
      default: return base;
    }
  }

  DType value(DType base) {
    const int i = n_value_++;
    if (is_mixtral()) return DType::q8_0;
    DType type = value_of_layer(i, base);
    // Eight query heads share a key: attn_v is small there, and a bit more costs next to nothing.
    if (model_.is_70b && (type == DType::q3_k || type == DType::q4_k)) type = DType::q5_k;
    return type;
  }
  DType value_of_layer(int i, DType base) const {
    const bool grouped = has_grouped_queries();
    switch (type_) {
      case FileType::q2_k: return grouped ? DType::q4_k : DType::q3_k;
      case FileType::q2_k_s:
      case FileType::iq3_xs:
      case FileType::iq3_s: return grouped ? DType::q4_k : base;
      case FileType::iq3_xxs: return grouped ? DType::q4_k : has_importance_ ? base : DType::iq3_s;
      case FileType::iq3_m: return DType::q4_k;
      case FileType::q3_k_m: return i < 2 ? DType::q5_k : DType::q4_k;
      case FileType::q3_k_l: return DType::q5_k;
      case FileType::iq4_nl:
      case FileType::iq4_xs: return grouped ? DType::q5_k : base;
      case FileType::q4_k_m:
      case FileType::q5_k_m: return gets_more_bits(i, n_values_) ? DType::q6_k : base;
      case FileType::q4_k_s: return i < 4 ? DType::q5_k : base;
      default: return base;
    }
  }

  DType query_or_key(Role role, DType base) const {
    if (role == Role::key && is_mixtral()) return DType::q8_0;
    if (is(FileType::iq3_xs)) return DType::iq3_xxs;
    return is(FileType::iq3_xxs) ? DType::iq2_s : base;
  }

  DType down(int i, DType base) const {
    const int n = model_.n_layers;
    const bool early = i < eighth();
    switch (type_) {
      case FileType::q2_k: return DType::q3_k;
      case FileType::q2_k_s: return early ? DType::q4_k : base;
      case FileType::iq3_xxs: return has_importance_ ? base : early ? DType::q4_k : DType::q3_k;
      case FileType::q3_k_m: return i < n / 16 ? DType::q5_k : DType::q4_k;
      case FileType::iq3_m: return early || (is_mixtral() && gets_more_bits(i, n)) ? DType::q4_k : base;
      case FileType::q3_k_l: return DType::q5_k;
      case FileType::q4_k_m:
      case FileType::q5_k_m: return gets_more_bits(i, n) ? DType::q6_k : base;
      case FileType::iq4_nl:
      case FileType::iq4_xs: return early && !has_importance_ ? DType::q5_k : base;
      case FileType::q4_k_s: return early ? DType::q5_k : base;
      case FileType::q4_0: return early && has_importance_ ? DType::q4_1 : base;
      case FileType::q5_0: return early && has_importance_ ? DType::q5_1 : base;
      default: return base;
    }
  }

  DType attention_output(DType base) const {
    if (is_mixtral()) {
      return is_any(type_, FileType::q2_k, FileType::iq3_xs, FileType::iq3_xxs, FileType::q3_k_s,
                    FileType::q3_k_m, FileType::iq4_nl, FileType::q4_k_s, FileType::q4_k_m, FileType::iq3_s,
                    FileType::iq3_m, FileType::iq4_xs)
                 ? DType::q5_k
                 : base;
    }
    switch (type_) {
      case FileType::q2_k: return DType::q3_k;
      case FileType::iq3_xxs: return DType::iq3_s;
      case FileType::q3_k_m:
      case FileType::iq3_m: return DType::q4_k;
      case FileType::q3_k_l: return DType::q5_k;
      default: return base;
    }
  }

  DType gate_or_up(int i, DType base) const {
    const int n = model_.n_layers;
    return is(FileType::iq3_xs) && i >= n / 8 && i < 7 * n / 8 ? DType::iq3_xxs : base;
  }

  const MixModel model_;
  const FileType type_;
  const bool has_importance_;
  const int n_values_;  // tensors with values of attention
  int n_value_ = 0, n_down_ = 0, n_gate_ = 0, n_up_ = 0;
};

/// The type that stands in for one whose blocks do not divide the rows of a tensor.
DType fitting(const GgufTensor& tensor, DType wanted) {
  const auto divides = [&](DType t) { return tensor.dims[0] % traits_of(t).block_size == 0; };
  if (divides(wanted)) return wanted;
  DType instead = DType::f16;
  switch (wanted) {
    case DType::iq1_s:
    case DType::iq1_m:
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
    case DType::iq3_xxs:
    case DType::iq3_s:
    case DType::iq4_xs: instead = DType::iq4_nl; break;
    case DType::q2_0:
    case DType::q2_k:
    case DType::q3_k:
    case DType::tq1_0:
    case DType::tq2_0: instead = DType::q4_0; break;
    case DType::q4_k: instead = DType::q5_0; break;
    case DType::q5_k: instead = DType::q5_1; break;
    case DType::q6_k: instead = DType::q8_0; break;
    case DType::q1_0:
      throw Error(ErrorCode::invalid_argument,
                  "type: the rows of the tensor " + quote(tensor.name) + " have " +
                      std::to_string(tensor.dims[0]) + " columns, expected a multiple of " +
                      std::to_string(traits_of(wanted).block_size) + " for " + std::string(name_of(wanted)),
                  {{"option", "type"}, {"tensor", tensor.name}, {"found", tensor.dims[0]}});
    default: break;
  }
  return divides(instead) ? instead : DType::f16;
}

}  // namespace

bool is_quantizable(const GgufTensor& tensor) {
  const std::string_view name = tensor.name;
  // GGUF's dimensions without trailing ones, as llama.cpp counts them.
  const bool is_matrix = tensor.dims[1] > 1 || tensor.dims[2] > 1 || tensor.dims[3] > 1;
  return is_matrix && name.ends_with("weight") && !name.ends_with("_norm.weight") &&
         name.find("ffn_gate_inp.weight") == std::string_view::npos;
}

bool needs_importance(const GgufTensor& tensor, DType dtype, FileType type) {
  const Role role = role_of(tensor.name);
  if (role == Role::embedding || role == Role::output) return false;
  switch (dtype) {
    case DType::iq3_xxs:
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
    case DType::iq1_m:
    case DType::iq1_s: return true;
    case DType::q2_k: return type == FileType::q2_k_s;
    default: return false;
  }
}

std::vector<DType> mix_types(const ModelSource& model, FileType type, bool has_importance) {
  const std::vector<GgufTensor>& tensors = model.tensors();
  // The rules count tensors in the order of layers, whatever the file's order is.
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const int layer_a = layer_of(tensors[a].name).value_or(-1),
              layer_b = layer_of(tensors[b].name).value_or(-1);
    return layer_a != layer_b ? layer_a < layer_b : tensors[a].name < tensors[b].name;
  });
  const auto n_values = std::count_if(tensors.begin(), tensors.end(),
                                      [](const GgufTensor& t) { return role_of(t.name) == Role::value; });
  Mixer mixer(describe(model), type, has_importance, static_cast<int>(n_values));
  std::vector<DType> types(tensors.size());
  for (const std::size_t i : order) {
    const GgufTensor& tensor = tensors[i];
    const bool is_half = tensor.dtype == DType::f16 || tensor.dtype == DType::bf16;
    if (is_quantizable(tensor))
      types[i] = fitting(tensor, mixer.choose(tensor));
    else
      types[i] = is_half ? DType::f32 : tensor.dtype;
  }
  return types;
}

}  // namespace cria
