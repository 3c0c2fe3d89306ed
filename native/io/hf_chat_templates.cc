#include "io/hf_chat_templates.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/json.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxTemplateBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMaxTokenizerConfigBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxTemplates = 64;

using Templates = std::map<std::string, std::string>;  // name -> text; "default" is the one without a name

void read_from_tokenizer_config(const File& file, Templates* templates) {
  const JsonDocument document = JsonDocument::parse(read_text(file, kMaxTokenizerConfigBytes), file.path());
  const auto value = document.root().find("chat_template");
  if (!value) return;
  if (!value->is(JsonType::array)) {
    (*templates)["default"] = value->as_string();
    return;
  }
  if (value->size() > kMaxTemplates) value->fail("at most 64 templates", std::to_string(value->size()));
  for (const JsonValue one : value->elements())
    (*templates)[std::string(one.get("name").as_string())] = one.get("template").as_string();
}

/// The names of the files in additional_chat_templates/, sorted; empty where there is no such folder.
std::vector<std::string> additional_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator at(folder + "/additional_chat_templates", error), end;
  for (; !error && at != end && names.size() < kMaxTemplates; at.increment(error))
    if (at->path().extension() == ".jinja") names.push_back(at->path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// gguf-py's spelling of a name in a key.
std::string key_part(std::string name) {
  for (char& c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) c = '_';
  return name;
}

}  // namespace

void read_hf_chat_templates(const std::string& folder, const FileOpener& open, AssembledSource* source) {
  Templates templates;
  if (const auto file = open_if_exists(open, folder + "/tokenizer_config.json"))
    read_from_tokenizer_config(*file, &templates);
  const auto file = open_if_exists(open, folder + "/chat_template.jinja");
  const std::vector<std::string> additional = additional_names(folder);
  if (file || !additional.empty()) templates.clear();
  if (file) templates["default"] = read_text(*file, kMaxTemplateBytes);
  for (const std::string& name : additional)
    templates[name] =
        read_text(*open(folder + "/additional_chat_templates/" + name + ".jinja"), kMaxTemplateBytes);

  std::vector<std::string> names;
  for (const auto& [name, text] : templates) {
    if (name == "default") {
      source->set_string("tokenizer.chat_template", text);
    } else if (!name.empty()) {
      names.push_back(key_part(name));
      source->set_string("tokenizer.chat_template." + names.back(), text);
    }
  }
  constexpr std::string_view kNames = "tokenizer.chat_templates";
  if (!names.empty())
    source->set_metadata(std::string(kNames), GgufType::array, GgufArray::of(std::string(kNames), names));
}

}  // namespace cria
