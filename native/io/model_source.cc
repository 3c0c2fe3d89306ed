#include "io/model_source.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "io/file_error.h"
#include "io/gguf.h"
#include "io/hf_folder.h"
#include "io/meta_folder.h"
#include "io/name_index.h"

namespace cria {
namespace {

std::string_view name_of(const GgufValue& value) {
  struct Names {
    std::string_view operator()(std::uint64_t) const { return "an unsigned integer"; }
    std::string_view operator()(std::int64_t) const { return "a signed integer"; }
    std::string_view operator()(double) const { return "a float"; }
    std::string_view operator()(bool) const { return "a bool"; }
    std::string_view operator()(const std::string&) const { return "a string"; }
    std::string_view operator()(const GgufArray&) const { return "an array"; }
  };
  return std::visit(Names{}, value);
}

[[noreturn]] void throw_type(const ModelSource& file, std::string_view key, std::string_view expected,
                             const std::string& found) {
  throw Error(ErrorCode::invalid_model,
              file.path() + ": metadata key " + quote(key) + ": expected " + std::string(expected) +
                  ", found " + found,
              {{"path", file.path()}, {"key", key}, {"expected", expected}, {"found", found}});
}

template <typename T>
T required(std::optional<T> value, const ModelSource& file, std::string_view key, std::string_view expected) {
  if (!value) throw_type(file, key, expected, "nothing: the key is missing");
  return *std::move(value);
}

/// The element of `items` with this name, found by binary search in `order`, or nullptr.
template <typename Items, typename NameOf>
auto find_by_name(const Items& items, const std::vector<std::uint32_t>& order, std::string_view name,
                  NameOf name_of_item) -> const typename Items::value_type* {
  const auto it = std::lower_bound(
      order.begin(), order.end(), name,
      [&](std::uint32_t i, std::string_view wanted) { return name_of_item(items[i]) < wanted; });
  return it != order.end() && name_of_item(items[*it]) == name ? &items[*it] : nullptr;
}

std::string_view key_of(const std::pair<std::string, GgufValue>& entry) { return entry.first; }
std::string_view tensor_name(const GgufTensor& tensor) { return tensor.name; }

/// The folder of a model that consists of several files, given the folder or a file in it by which people may
/// name it. Nothing for the path of any other file.
std::optional<std::string> folder_of_model(const std::string& path) {
  check_path(path);
  std::error_code error;
  std::filesystem::path folder = path;
  if (!std::filesystem::is_directory(folder, error)) {
    const std::string name = folder.filename().string();
    if (name != "config.json" && name != "params.json" && !name.ends_with(".safetensors") &&
        !name.ends_with(".safetensors.index.json") && !name.ends_with(".pth"))
      return std::nullopt;
    folder = folder.has_parent_path() ? folder.parent_path() : std::filesystem::path(".");
  } else if (!folder.has_filename() && folder.has_relative_path()) {
    folder = folder.parent_path();  // without the slash at its end
  }
  return folder.string();
}

constexpr std::string_view kExpectedUint = "a non-negative integer";
constexpr std::string_view kExpectedFloat = "a number";
constexpr std::string_view kExpectedString = "a string";
constexpr std::string_view kExpectedBool = "a bool";
constexpr std::string_view kExpectedArray = "an array";

}  // namespace

std::unique_ptr<ModelSource> ModelSource::open(const std::string& path) {
  if (const auto folder = folder_of_model(path)) {
    if (std::filesystem::exists(*folder + "/config.json")) return open_hf_folder(*folder, File::open);
    if (std::filesystem::exists(*folder + "/params.json")) return open_meta_folder(*folder, File::open);
    throw Error(ErrorCode::file_not_found,
                *folder +
                    ": expected a model, found a folder without config.json (as Hugging Face has it) and "
                    "params.json (as Meta has it)",
                {{"path", *folder}, {"expected", "config.json or params.json"}});
  }
  return std::make_unique<GgufFile>(GgufFile::open(path));
}

void ModelSource::build_indices() {
  metadata_order_ = sorted_by_name(metadata_, key_of);
  tensor_order_ = sorted_by_name(tensors_, tensor_name);
}

void ModelSource::set_metadata(std::string key, GgufType type, GgufValue value) {
  if (const auto* known = find(key)) {
    const auto i =
        static_cast<std::size_t>(std::find_if(metadata_.begin(), metadata_.end(),
                                              [&](const auto& entry) { return &entry.second == known; }) -
                                 metadata_.begin());
    metadata_[i].second = std::move(value);
    metadata_types_[i] = type;
    return;
  }
  metadata_.emplace_back(std::move(key), std::move(value));
  metadata_types_.push_back(type);
  metadata_order_ = sorted_by_name(metadata_, key_of);
}

void ModelSource::drop_metadata() noexcept {
  metadata_ = {};
  metadata_types_ = {};
  metadata_order_ = {};
}

std::uint64_t ModelSource::total_file_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const auto& file : files_) total += file->size();
  return total;
}

const GgufValue* ModelSource::find(std::string_view key) const noexcept {
  const auto* entry = find_by_name(metadata_, metadata_order_, key, key_of);
  return entry == nullptr ? nullptr : &entry->second;
}

const GgufTensor* ModelSource::find_tensor(std::string_view name) const noexcept {
  return find_by_name(tensors_, tensor_order_, name, tensor_name);
}

std::optional<std::string> ModelSource::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  throw_type(*this, key, kExpectedString, std::string(name_of(*value)));
}

std::optional<std::uint64_t> ModelSource::find_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value)) {
    if (*number >= 0) return static_cast<std::uint64_t>(*number);
    throw_type(*this, key, kExpectedUint, std::to_string(*number));
  }
  throw_type(*this, key, kExpectedUint, std::string(name_of(*value)));
}

std::optional<double> ModelSource::find_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  throw_type(*this, key, kExpectedFloat, std::string(name_of(*value)));
}

std::optional<bool> ModelSource::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  throw_type(*this, key, kExpectedBool, std::string(name_of(*value)));
}

const GgufArray* ModelSource::find_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* array = std::get_if<GgufArray>(value)) return array;
  throw_type(*this, key, kExpectedArray, std::string(name_of(*value)));
}

std::string ModelSource::get_string(std::string_view key) const {
  return required(find_string(key), *this, key, kExpectedString);
}

std::uint64_t ModelSource::get_uint(std::string_view key) const {
  return required(find_uint(key), *this, key, kExpectedUint);
}

double ModelSource::get_float(std::string_view key) const {
  return required(find_float(key), *this, key, kExpectedFloat);
}

bool ModelSource::get_bool(std::string_view key) const {
  return required(find_bool(key), *this, key, kExpectedBool);
}

const GgufArray& ModelSource::get_array(std::string_view key) const {
  const GgufArray* array = find_array(key);
  if (array == nullptr) throw_type(*this, key, kExpectedArray, "nothing: the key is missing");
  return *array;
}

}  // namespace cria
