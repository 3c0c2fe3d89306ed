// GGUF reader: untrusted bytes -> typed metadata and bounds-checked tensor descriptions. Tensor data is not read here.
// Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "io/file.h"

namespace cria {

/// GGUF's metadata value types; the numbers are the file's.
enum class GgufType : std::uint32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7,
  string = 8, array = 9, u64 = 10, i64 = 11, f64 = 12,
};

/// An array in the metadata: numbers are widened when read through the accessors, strings live in one buffer.
class GgufArray {
 public:
  GgufType element_type() const;
  std::size_t size() const;
  std::string_view string_at(std::size_t i) const;  // throws ERR_INVALID_MODEL if not an array of strings
  double number_at(std::size_t i) const;            // any integer, float or bool element
  std::int64_t integer_at(std::size_t i) const;     // throws if the element is not a representable integer
  // ... storage chosen by the implementer: compact, filled in one pass
};

using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
  std::string name;
  DType dtype;
  std::uint32_t n_dims;              // 1..4
  std::uint64_t dims[4];             // dims[0] is the contiguous one (GGUF's order): cols, rows, ...
  std::uint32_t file_index;          // which split
  std::uint64_t offset;              // absolute byte offset in that file
  std::uint64_t bytes;
};

class GgufFile {
 public:
  /// Opens `path`; when it is one of a split (`-00001-of-0000N.gguf`, metadata `split.count`), opens every part.
  static GgufFile open(const std::string& path);

  const std::string& path() const;
  std::uint32_t version() const;
  const std::vector<std::shared_ptr<const File>>& files() const;  // one per split
  std::uint64_t total_file_bytes() const;

  // Metadata, in file order. Typed getters throw ERR_INVALID_MODEL naming the key, the expected and the found type.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const;
  const GgufValue* find(std::string_view key) const;
  std::string get_string(std::string_view key) const;
  std::uint64_t get_uint(std::string_view key) const;
  double get_float(std::string_view key) const;
  // ... optional forms: std::optional<...> find_uint(key) etc: absent -> nullopt, wrong type -> throws

  const std::vector<GgufTensor>& tensors() const;
  const GgufTensor* find_tensor(std::string_view name) const;
};

}  // namespace cria
