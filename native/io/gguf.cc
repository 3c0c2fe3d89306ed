#include "io/gguf.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/file_error.h"
#include "io/gguf_parse.h"

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

[[noreturn]] void throw_type(const GgufFile& file, std::string_view key, std::string_view expected,
                             const std::string& found) {
  throw Error(ErrorCode::invalid_model,
              file.path() + ": metadata key " + quote(key) + ": expected " + std::string(expected) +
                  ", found " + found,
              {{"path", file.path()}, {"key", key}, {"expected", expected}, {"found", found}});
}

template <typename T>
T required(std::optional<T> value, const GgufFile& file, std::string_view key, std::string_view expected) {
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

template <typename T>
T load(const std::uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

constexpr std::string_view kExpectedUint = "a non-negative integer";
constexpr std::string_view kExpectedFloat = "a number";
constexpr std::string_view kExpectedString = "a string";
constexpr std::string_view kExpectedBool = "a bool";
constexpr std::string_view kExpectedArray = "an array";

}  // namespace

std::string_view name_of(GgufType type) noexcept {
  switch (type) {
    case GgufType::u8: return "uint8";
    case GgufType::i8: return "int8";
    case GgufType::u16: return "uint16";
    case GgufType::i16: return "int16";
    case GgufType::u32: return "uint32";
    case GgufType::i32: return "int32";
    case GgufType::f32: return "float32";
    case GgufType::boolean: return "bool";
    case GgufType::string: return "string";
    case GgufType::array: return "array";
    case GgufType::u64: return "uint64";
    case GgufType::i64: return "int64";
    case GgufType::f64: return "float64";
  }
  return "unknown";
}

// ---- arrays ----

void GgufArray::throw_kind(std::size_t i, std::string_view expected) const {
  throw Error(
      ErrorCode::invalid_model,
      "metadata key " + quote(key_) + ": expected " + std::string(expected) + " as element " +
          std::to_string(i) + ", found an array of " + std::to_string(size_) + " " +
          std::string(cria::name_of(element_type_)),
      {{"key", key_}, {"element", i}, {"expected", expected}, {"found", cria::name_of(element_type_)}});
}

const std::uint8_t* GgufArray::element(std::size_t i) const {
  return bytes_.data() + i * (bytes_.size() / size_);
}

std::string_view GgufArray::string_at(std::size_t i) const {
  if (!holds_strings() || i >= size_) throw_kind(i, kExpectedString);
  const std::size_t begin = i == 0 ? 0 : string_ends_[i - 1];
  return {reinterpret_cast<const char*>(bytes_.data()) + begin, string_ends_[i] - begin};
}

double GgufArray::number_at(std::size_t i) const {
  if (i >= size_ || holds_strings()) throw_kind(i, kExpectedFloat);
  switch (element_type_) {
    case GgufType::f32: return load<float>(element(i));
    case GgufType::f64: return load<double>(element(i));
    case GgufType::u64: return static_cast<double>(load<std::uint64_t>(element(i)));
    default: return static_cast<double>(integer_at(i));
  }
}

std::int64_t GgufArray::integer_at(std::size_t i) const {
  if (i >= size_) throw_kind(i, "an integer");
  switch (element_type_) {
    case GgufType::boolean:
    case GgufType::u8: return load<std::uint8_t>(element(i));
    case GgufType::i8: return load<std::int8_t>(element(i));
    case GgufType::u16: return load<std::uint16_t>(element(i));
    case GgufType::i16: return load<std::int16_t>(element(i));
    case GgufType::u32: return load<std::uint32_t>(element(i));
    case GgufType::i32: return load<std::int32_t>(element(i));
    case GgufType::i64: return load<std::int64_t>(element(i));
    case GgufType::u64: {
      const auto value = load<std::uint64_t>(element(i));
      if (value > INT64_MAX) throw_kind(i, "an integer below 2^63");
      return static_cast<std::int64_t>(value);
    }
    default: throw_kind(i, "an integer");
  }
}

// ---- files ----

GgufFile GgufFile::open(const std::string& path) { return open(File::open(path), File::open); }

GgufFile GgufFile::open(std::shared_ptr<const File> file, const FileOpener& open_part) {
  GgufFile gguf;
  gguf.path_ = file->path();
  GgufPart opened = parse_gguf_part(*file, 0);
  std::vector<GgufPart> parts = join_gguf_split(std::move(file), std::move(opened), open_part, &gguf.files_);
  gguf.version_ = parts.front().version;
  gguf.metadata_ = std::move(parts.front().metadata);
  gguf.metadata_types_ = std::move(parts.front().metadata_types);
  gguf.tensors_ = std::move(parts.front().tensors);
  for (std::size_t i = 1; i < parts.size(); ++i)
    std::move(parts[i].tensors.begin(), parts[i].tensors.end(), std::back_inserter(gguf.tensors_));
  gguf.build_indices();
  return gguf;
}

void GgufFile::drop_metadata() noexcept {
  metadata_ = {};
  metadata_types_ = {};
  metadata_order_ = {};
}

void GgufFile::build_indices() {
  metadata_order_ = sorted_by_name(metadata_, key_of);
  tensor_order_ = sorted_by_name(tensors_, tensor_name);
  if (const auto twice = first_duplicate(tensors_, tensor_order_, tensor_name)) {
    const GgufTensor &a = tensors_[twice->first], &b = tensors_[twice->second];
    throw Error(ErrorCode::invalid_file,
                path_ + ": the tensor " + quote(a.name) + " is in two parts of the split: " +
                    files_[a.file_index]->path() + " and " + files_[b.file_index]->path(),
                {{"path", path_}, {"tensor", a.name}});
  }
}

std::uint64_t GgufFile::total_file_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const auto& file : files_) total += file->size();
  return total;
}

const GgufValue* GgufFile::find(std::string_view key) const noexcept {
  const auto* entry = find_by_name(metadata_, metadata_order_, key, key_of);
  return entry == nullptr ? nullptr : &entry->second;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const noexcept {
  return find_by_name(tensors_, tensor_order_, name, tensor_name);
}

// ---- typed metadata ----

std::optional<std::string> GgufFile::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  throw_type(*this, key, kExpectedString, std::string(name_of(*value)));
}

std::optional<std::uint64_t> GgufFile::find_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value)) {
    if (*number >= 0) return static_cast<std::uint64_t>(*number);
    throw_type(*this, key, kExpectedUint, std::to_string(*number));
  }
  throw_type(*this, key, kExpectedUint, std::string(name_of(*value)));
}

std::optional<double> GgufFile::find_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  throw_type(*this, key, kExpectedFloat, std::string(name_of(*value)));
}

std::optional<bool> GgufFile::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  throw_type(*this, key, kExpectedBool, std::string(name_of(*value)));
}

const GgufArray* GgufFile::find_array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* array = std::get_if<GgufArray>(value)) return array;
  throw_type(*this, key, kExpectedArray, std::string(name_of(*value)));
}

std::string GgufFile::get_string(std::string_view key) const {
  return required(find_string(key), *this, key, kExpectedString);
}

std::uint64_t GgufFile::get_uint(std::string_view key) const {
  return required(find_uint(key), *this, key, kExpectedUint);
}

double GgufFile::get_float(std::string_view key) const {
  return required(find_float(key), *this, key, kExpectedFloat);
}

bool GgufFile::get_bool(std::string_view key) const {
  return required(find_bool(key), *this, key, kExpectedBool);
}

const GgufArray& GgufFile::get_array(std::string_view key) const {
  const GgufArray* array = find_array(key);
  if (array == nullptr) throw_type(*this, key, kExpectedArray, "nothing: the key is missing");
  return *array;
}

}  // namespace cria
