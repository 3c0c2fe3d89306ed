// Adapters in GGUF, as llama.cpp's convert_lora_to_gguf.py writes them: for a tensor T of the model T.lora_a,
// [rank, cols], and T.lora_b, [rows, rank], with rows of query and key in the order of the model's GGUF.
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include "io/file_error.h"
#include "io/gguf.h"
#include "model/adapter_reader.h"

namespace cria {
namespace {

constexpr std::pair<std::string_view, Projection> kNames[] = {
    {"attn_q.weight", Projection::query},  {"attn_k.weight", Projection::key},
    {"attn_v.weight", Projection::value},  {"attn_output.weight", Projection::attention_output},
    {"ffn_gate.weight", Projection::gate}, {"ffn_up.weight", Projection::up},
    {"ffn_down.weight", Projection::down}};

void check_metadata(const GgufFile& file, const ModelConfig& config) {
  const std::string& path = file.path();
  const auto require = [&](const char* key, const std::string& expected) {
    const std::optional<std::string> found = file.find_string(key);
    if (found != expected)
      throw_invalid_adapter(path, std::string("metadata key \"") + key + "\"", quote(expected),
                            found ? quote(*found) : "nothing");
  };
  require("general.type", "adapter");
  if (const std::optional<std::string> type = file.find_string("adapter.type"); type && type != "lora")
    throw_unsupported_adapter(path, "adapter.type",
                              "adapters of type " + quote(*type) + " are not supported");
  require("adapter.type", "lora");
  require("general.architecture", config.architecture);
  if (file.find("adapter.alora.invocation_tokens"))
    throw_unsupported_adapter(path, "adapter.alora.invocation_tokens",
                              "activated LoRA, which begins at such tokens, is not supported");
}

struct TensorName {
  std::uint64_t layer;
  Projection projection;
  AdapterReader::Which which;
};

/// "blk.<n>.<matrix>.lora_a"; nothing for any other name.
std::optional<TensorName> parse_name(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  const bool is_a = name.ends_with(".lora_a");
  if (!name.starts_with(kPrefix) || (!is_a && !name.ends_with(".lora_b"))) return std::nullopt;
  name.remove_suffix(std::string_view(".lora_a").size());
  name.remove_prefix(kPrefix.size());
  std::uint64_t layer = 0;
  const auto [after, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || after == name.data() + name.size() || *after != '.') return std::nullopt;
  const std::string_view rest = name.substr(static_cast<std::size_t>(after - name.data()) + 1);
  for (const auto& [known, projection] : kNames)
    if (known == rest)
      return TensorName{layer, projection, is_a ? AdapterReader::Which::a : AdapterReader::Which::b};
  return std::nullopt;
}

[[noreturn]] void refuse(const std::string& path, const GgufTensor& tensor) {
  const std::string what = "tensor " + quote(tensor.name);
  const std::string_view name = tensor.name;
  if (!name.ends_with(".lora_a") && !name.ends_with(".lora_b"))
    throw_unsupported_adapter(path, what, "only .lora_a and .lora_b are supported in an adapter");
  if (name.find("_exps.") != name.npos || name.find("ffn_gate_inp") != name.npos)
    throw_unsupported_adapter(path, what, "adapters of experts and their router are not supported");
  throw_unsupported_adapter(path, what,
                            "only the projections of attention and of the FFN may have an adapter");
}

}  // namespace

AdapterFile read_gguf_adapter(const std::shared_ptr<const GgufFile>& file, const ModelConfig& config,
                              const CancelFlag& cancel) {
  const std::string& path = file->path();
  check_metadata(*file, config);
  const double alpha = file->find_float("adapter.lora.alpha").value_or(0);
  if (!std::isfinite(alpha))
    throw_invalid_adapter(path, "metadata key \"adapter.lora.alpha\"", "a finite number",
                          std::to_string(alpha));
  AdapterReader reader(path, config);
  for (const GgufTensor& tensor : file->tensors()) {
    const std::optional<TensorName> name = parse_name(tensor.name);
    if (!name) refuse(path, tensor);
    if (tensor.n_dims > 2)
      throw_invalid_adapter(path, "tensor " + quote(tensor.name), "a matrix",
                            std::to_string(tensor.n_dims) + " dimensions");
    reader.add(
        name->layer, name->projection, name->which,
        {.name = tensor.name,
         .dtype = tensor.dtype,
         .rows = static_cast<std::int64_t>(tensor.dims[1]),
         .cols = static_cast<std::int64_t>(tensor.dims[0]),
         .read = [file, &tensor](void* dst, std::size_t bytes) { file->read(tensor, 0, dst, bytes); }});
  }
  // As llama.cpp: without an alpha, or with 0, the update is added as it is.
  const auto scale = [&](const AdapterReader::Target&, const AdapterReader::Half& a) {
    return alpha == 0 ? 1.0 : alpha / static_cast<double>(a.rows);
  };
  AdapterFile adapter;
  adapter.info.format = "gguf";
  adapter.info.name = file->find_string("general.name").value_or("");
  adapter.matrices = reader.read(scale, false, cancel);
  return adapter;
}

}  // namespace cria
