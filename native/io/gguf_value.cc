#include "io/gguf_value.h"

#include <cstring>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

template <typename T>
T load(const std::uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

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

GgufArray GgufArray::of(std::string key, std::span<const std::string> strings) {
  GgufArray array;
  array.key_ = std::move(key);
  array.element_type_ = GgufType::string;
  array.size_ = strings.size();
  std::size_t total = 0;
  for (const std::string& text : strings) total += text.size();
  if (total > UINT32_MAX)
    throw Error(ErrorCode::unsupported_file, "metadata key " + quote(array.key_) + ": more than 4 GiB");
  array.bytes_.reserve(total);
  array.string_ends_.reserve(strings.size());
  for (const std::string& text : strings) {
    array.bytes_.insert(array.bytes_.end(), text.begin(), text.end());
    array.string_ends_.push_back(static_cast<std::uint32_t>(array.bytes_.size()));
  }
  return array;
}

GgufArray GgufArray::of(std::string key, std::span<const float> numbers) {
  return of_numbers(std::move(key), GgufType::f32, numbers);
}

GgufArray GgufArray::of(std::string key, std::span<const std::int32_t> numbers) {
  return of_numbers(std::move(key), GgufType::i32, numbers);
}

template <typename T>
GgufArray GgufArray::of_numbers(std::string key, GgufType type, std::span<const T> numbers) {
  GgufArray array;
  array.key_ = std::move(key);
  array.element_type_ = type;
  array.size_ = numbers.size();
  array.bytes_.resize(numbers.size_bytes());
  if (!numbers.empty()) std::memcpy(array.bytes_.data(), numbers.data(), numbers.size_bytes());
  return array;
}

std::string_view GgufArray::string_at(std::size_t i) const {
  if (!holds_strings() || i >= size_) throw_kind(i, "a string");
  const std::size_t begin = i == 0 ? 0 : string_ends_[i - 1];
  return {reinterpret_cast<const char*>(bytes_.data()) + begin, string_ends_[i] - begin};
}

double GgufArray::number_at(std::size_t i) const {
  if (i >= size_ || holds_strings()) throw_kind(i, "a number");
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

}  // namespace cria
