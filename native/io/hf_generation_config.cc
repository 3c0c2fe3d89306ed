#include "io/hf_generation_config.h"

#include <string_view>

#include "core/json.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 20;

struct Key {
  std::string_view hf, gguf;
};

constexpr Key kFloats[] = {{"temperature", "temp"},
                           {"top_p", "top_p"},
                           {"min_p", "min_p"},
                           {"repetition_penalty", "penalty_repeat"}};

}  // namespace

void read_hf_generation_config(const std::string& folder, const FileOpener& open, AssembledSource* source) {
  const auto file = open_if_exists(open, folder + "/generation_config.json");
  if (!file) return;
  const JsonDocument document = JsonDocument::parse(read_text(*file, kMaxBytes), file->path());
  const std::string prefix = "general.sampling.";
  for (const Key& key : kFloats)
    if (const auto value = document.root().find(key.hf))
      source->set_float(prefix + std::string(key.gguf), value->as_number());
  if (const auto top_k = document.root().find("top_k"))
    source->set_metadata(prefix + "top_k", GgufType::i32, top_k->as_integer());
}

}  // namespace cria
