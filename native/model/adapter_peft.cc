// Adapters as Hugging Face's PEFT saves them: adapter_config.json and adapter_model.safetensors in a folder.
// The matrices have Hugging Face's names and order. Source: github.com/huggingface/peft, peft/tuners/lora
// (config.py, layer.py) and peft/utils/other.py (get_pattern_key).
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>
#include <regex>

#include "core/json.h"
#include "io/file_error.h"
#include "io/safetensors.h"
#include "model/adapter_reader.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;

constexpr std::pair<std::string_view, Projection> kModules[] = {
    {"self_attn.q_proj", Projection::query}, {"self_attn.k_proj", Projection::key},
    {"self_attn.v_proj", Projection::value}, {"self_attn.o_proj", Projection::attention_output},
    {"mlp.gate_proj", Projection::gate},     {"mlp.up_proj", Projection::up},
    {"mlp.down_proj", Projection::down}};

/// Keys that say how an adapter was trained, or what its tensors say too.
constexpr std::string_view kHarmless[] = {"auto_mapping",   "base_model_name_or_path",
                                          "corda_config",   "ensure_weight_tying",
                                          "eva_config",     "exclude_modules",
                                          "fan_in_fan_out", "inference_mode",
                                          "layers_pattern", "layers_to_transform",
                                          "loftq_config",   "lora_dropout",
                                          "lora_ga_config", "megatron_config",
                                          "megatron_core",  "modules_to_save",
                                          "peft_version",   "qalora_group_size",
                                          "revision",       "runtime_config",
                                          "target_modules", "task_type"};

/// Ways to begin training that leave the model's own weights as they are. The others (pissa, olora, corda,
/// loftq, ...) change them, and the adapter belongs to the changed ones.
constexpr std::string_view kHarmlessInitializations[] = {"gaussian", "eva", "orthogonal"};

template <std::size_t N>
bool is_one_of(std::string_view text, const std::string_view (&list)[N]) {
  for (const std::string_view one : list)
    if (one == text) return true;
  return false;
}

/// Whether a value differs from "not used".
bool is_set(const JsonValue& value) {
  switch (value.type()) {
    case JsonType::null: return false;
    case JsonType::boolean: return value.as_bool();
    case JsonType::array:
    case JsonType::object: return value.size() > 0;
    default: return true;
  }
}

/// rank_pattern or alpha_pattern: values by module. A key is a regular expression of the end of a module's
/// name, from a dot on.
class Pattern {
 public:
  Pattern(const std::string& path, const JsonValue& config, std::string_view name) {
    const std::optional<JsonValue> object = config.find(name);
    if (!object) return;
    std::size_t n_expressions = 0;
    for (const JsonMember member : object->members()) {
      Entry& entry = entries_.emplace_back(Entry{.value = member.value.as_number()});
      if (entry.parse_name(member.key)) continue;
      const auto refuse = [&](const std::string& why) {
        throw_unsupported_adapter(path, std::string(name) + " " + quote(member.key), why);
      };
      if (member.key.size() > kMaxExpression || ++n_expressions > kMaxExpressions)
        refuse("more or longer regular expressions than are supported");
      try {
        // Matched in polynomial time: the pattern is the file's.
        entry.expression.emplace("(.*\\.)?(" + std::string(member.key) + ")$",
                                 std::regex::ECMAScript | std::regex_constants::__polynomial);
      } catch (const std::regex_error&) {
        refuse("this regular expression is not supported");
      }
    }
  }

  /// Of the first key that matches.
  std::optional<double> find(const std::string& module) const {
    for (const Entry& entry : entries_)
      if (entry.matches(module)) return entry.value;
    return std::nullopt;
  }

 private:
  static constexpr std::size_t kMaxExpression = 256, kMaxExpressions = 64;

  struct Character {
    bool any;
    char character;
  };
  struct Entry {
    double value = 0;
    bool whole = false;  // begins with '^'
    std::vector<Character> characters{};
    std::optional<std::regex> expression{};  // of a key that is more than a name

    /// The common keys: literal characters, '.', and a '^' in front.
    bool parse_name(std::string_view key) {
      whole = key.starts_with('^');
      if (whole) key.remove_prefix(1);
      for (const char character : key) {
        constexpr std::string_view kSpecial = "*+?()[]{}|^$\\";
        if (kSpecial.find(character) != kSpecial.npos) return false;
        characters.push_back({.any = character == '.', .character = character});
      }
      return true;
    }

    bool matches(const std::string& module) const {
      if (expression) return std::regex_match(module, *expression);
      if (module.size() < characters.size()) return false;
      const std::size_t before = module.size() - characters.size();
      if (before > 0 && (whole || module[before - 1] != '.')) return false;
      for (std::size_t i = 0; i < characters.size(); i++)
        if (!characters[i].any && characters[i].character != module[before + i]) return false;
      return true;
    }
  };
  std::vector<Entry> entries_;
};

class PeftConfig {
 public:
  PeftConfig(const std::string& path, const JsonValue& config)
      : path_(path),
        ranks_(path, config, "rank_pattern"),
        alphas_(path, config, "alpha_pattern"),
        rank_(static_cast<double>(config.get("r").as_size())),
        alpha_(config.get("lora_alpha").as_number()) {
    const std::optional<JsonValue> rank_stabilised = config.find("use_rslora");
    rank_stabilised_ = rank_stabilised && rank_stabilised->as_bool();
    check(config);
  }

  double scale(const std::string& module, const AdapterReader::Half& a) const {
    const double rank = ranks_.find(module).value_or(rank_);
    if (rank != static_cast<double>(a.rows))
      throw_invalid_adapter(path_, "the rank of " + quote(module), number_text(rank) + ", its tensor's rows",
                            std::to_string(a.rows));
    return alphas_.find(module).value_or(alpha_) / (rank_stabilised_ ? std::sqrt(rank) : rank);
  }

 private:
  void check(const JsonValue& config) const {
    const auto refuse = [&](std::string_view key, const std::string& why) {
      throw_unsupported_adapter(path_, std::string(key), why);
    };
    for (const auto& [key, value] : config.members()) {
      if (key == "peft_type") {
        if (value.as_string() != "LORA")
          refuse(key,
                 "adapters of type " + quote(value.as_string()) + " are not supported; only \"LORA\" is");
      } else if (key == "bias") {
        if (value.as_string() != "none")
          refuse(key, quote(value.as_string()) + ": adapters with biases are not supported");
      } else if (key == "init_lora_weights") {
        if (value.is(JsonType::string) && !is_one_of(value.as_string(), kHarmlessInitializations))
          refuse(key,
                 quote(value.as_string()) +
                     " changes the model's own weights; convert the adapter to a plain LoRA when saving");
      } else if (key == "use_dora") {
        if (value.as_bool()) refuse(key, "DoRA (weight-decomposed adapters) is not supported");
      } else if (key == "lora_bias") {
        if (value.as_bool()) refuse(key, "adapters with biases are not supported");
      } else if (!is_one_of(key, kRead) && !is_one_of(key, kHarmless) && is_set(value)) {
        refuse(key, "this variant of LoRA is not supported");
      }
    }
    config.get("peft_type");
  }

  static constexpr std::string_view kRead[] = {"r", "lora_alpha", "use_rslora", "rank_pattern",
                                               "alpha_pattern"};
  std::string path_;
  Pattern ranks_, alphas_;
  double rank_, alpha_;
  bool rank_stabilised_ = false;
};

struct TensorName {
  std::uint64_t layer;
  Projection projection;
  AdapterReader::Which which;
};

std::string module_of(std::uint64_t layer, Projection projection) {
  return "model.layers." + std::to_string(layer) + "." +
         std::string(kModules[static_cast<std::size_t>(projection)].first);
}

/// "base_model.model.model.layers.<n>.<module>.lora_A.weight"; nothing for any other name.
std::optional<TensorName> parse_name(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.model.layers.", kA = ".lora_A.weight",
                             kB = ".lora_B.weight";
  const bool is_a = name.ends_with(kA);
  if (!name.starts_with(kPrefix) || (!is_a && !name.ends_with(kB))) return std::nullopt;
  name.remove_suffix(kA.size());
  if (name.size() < kPrefix.size()) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::uint64_t layer = 0;
  const auto [after, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || after == name.data() + name.size() || *after != '.') return std::nullopt;
  const std::string_view rest = name.substr(static_cast<std::size_t>(after - name.data()) + 1);
  for (const auto& [known, projection] : kModules)
    if (known == rest)
      return TensorName{layer, projection, is_a ? AdapterReader::Which::a : AdapterReader::Which::b};
  return std::nullopt;
}

[[noreturn]] void refuse(const std::string& path, const std::string& name) {
  const auto has = [&](std::string_view part) { return name.find(part) != name.npos; };
  const char* why = "only lora_A and lora_B of the projections of attention and of the FFN are supported";
  if (has("lora_magnitude_vector"))
    why = "DoRA (weight-decomposed adapters) is not supported";
  else if (name.ends_with(".bias"))
    why = "adapters with biases are not supported";
  else if (has("embed_tokens") || has("lm_head"))
    why = "adapters of the embedding and of the output are not supported";
  else if (has("experts") || has("block_sparse_moe"))
    why = "adapters of experts and their router are not supported";
  else if (!has(".lora_"))
    why = "whole modules in an adapter (modules_to_save) are not supported";
  throw_unsupported_adapter(path, "tensor " + quote(name), why);
}

DType dtype_of(const std::string& path, const StoredTensor& tensor) {
  switch (tensor.type) {
    case StoredType::f32: return DType::f32;
    case StoredType::f16: return DType::f16;
    case StoredType::bf16: return DType::bf16;
    default:
      throw_unsupported_adapter(
          path, "tensor " + quote(tensor.name),
          "an adapter in " + std::string(name_of(tensor.type)) + " is not supported; use F32, F16 or BF16");
  }
}

void add_tensor(const std::shared_ptr<const File>& file, const StoredTensor& tensor, AdapterReader& reader) {
  const std::optional<TensorName> name = parse_name(tensor.name);
  if (!name) refuse(file->path(), tensor.name);
  if (tensor.shape.size() != 2)
    throw_invalid_adapter(file->path(), "tensor " + quote(tensor.name), "a matrix",
                          std::to_string(tensor.shape.size()) + " dimensions");
  reader.add(name->layer, name->projection, name->which,
             {.name = tensor.name,
              .dtype = dtype_of(file->path(), tensor),
              .rows = static_cast<std::int64_t>(tensor.shape[0]),
              .cols = static_cast<std::int64_t>(tensor.shape[1]),
              .read = [file, offset = tensor.offset](void* dst, std::size_t bytes) {
                file->read_at(offset, dst, bytes);
              }});
}

}  // namespace

AdapterFile read_peft_adapter(const std::string& folder, const FileOpener& open, const ModelConfig& model,
                              const CancelFlag& cancel) {
  const std::string config_path = folder + "/adapter_config.json";
  const JsonDocument document =
      JsonDocument::parse(read_text(*open(config_path), kMaxConfigBytes), config_path);
  const PeftConfig config(config_path, document.root());
  const std::shared_ptr<const File> file = open(folder + "/adapter_model.safetensors");
  AdapterReader reader(file->path(), model);
  for (const StoredTensor& tensor : read_safetensors(*file, 0)) add_tensor(file, tensor, reader);
  const auto scale = [&](const AdapterReader::Target& target, const AdapterReader::Half& a) {
    return config.scale(module_of(static_cast<std::uint64_t>(target.layer), target.projection), a);
  };
  AdapterFile adapter;
  adapter.info.format = "peft";
  adapter.matrices = reader.read(scale, true, cancel);
  return adapter;
}

}  // namespace cria
