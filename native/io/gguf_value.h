// The metadata values of GGUF. Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cria {

/// GGUF's types of metadata values, numbered as in the file.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

/// The specification's spelling in lower case: "uint32", "float32", "bool", "string", "array", ...
std::string_view name_of(GgufType type) noexcept;

/// An array in the metadata. The accessors widen numbers; all strings share one buffer. Opening a file
/// refuses arrays of arrays.
class GgufArray {
 public:
  /// `key` is for messages.
  static GgufArray of(std::string key, std::span<const std::string> strings);
  static GgufArray of(std::string key, std::span<const float> numbers);
  static GgufArray of(std::string key, std::span<const std::int32_t> numbers);

  GgufType element_type() const noexcept { return element_type_; }
  std::size_t size() const noexcept { return size_; }
  bool holds_strings() const noexcept { return element_type_ == GgufType::string; }

  // Each throws ERR_INVALID_MODEL, naming the key, when the element has another type.
  /// Valid as long as the array.
  std::string_view string_at(std::size_t i) const;
  /// Any integer, float or bool element.
  double number_at(std::size_t i) const;
  /// An integer or bool element that fits 64 signed bits.
  std::int64_t integer_at(std::size_t i) const;
  /// Numbers only: the elements as a file stores them, little endian.
  std::span<const std::uint8_t> number_bytes() const noexcept { return bytes_; }

 private:
  friend class GgufPartParser;
  template <typename T>
  static GgufArray of_numbers(std::string key, GgufType type, std::span<const T> numbers);
  const std::uint8_t* element(std::size_t i) const;
  [[noreturn]] void throw_kind(std::size_t i, std::string_view expected) const;

  std::string key_;  // for messages
  GgufType element_type_ = GgufType::u8;
  std::size_t size_ = 0;
  std::vector<std::uint8_t> bytes_;         // numbers as in the file; strings concatenated
  std::vector<std::uint32_t> string_ends_;  // strings only: the end of each in bytes_
};

/// Unsigned integers as uint64, signed ones as int64, both float types as double.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray>;

}  // namespace cria
