// GGUF reader: untrusted bytes -> typed metadata and bounds-checked tensor descriptions. It does not read the
// tensors' data. Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3,
// little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/dtype.h"
#include "io/file.h"

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

 private:
  friend class GgufPartParser;
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

struct GgufTensor {
  std::string name;
  DType dtype;               // one of the weight types
  std::uint32_t n_dims;      // 1 to 4
  std::uint64_t dims[4];     // innermost first (GGUF's order): cols, rows, ...; 1 beyond n_dims
  std::uint32_t file_index;  // the part of a split that holds the data
  std::uint64_t offset;      // absolute byte offset in that file
  std::uint64_t bytes;

  /// Does not overflow: the parser checked it.
  std::uint64_t elements() const noexcept { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

/// The contents of one GGUF file (a whole model or one part of a split), checked on its own.
struct GgufPart {
  std::uint32_t version = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata;
  std::vector<GgufType> metadata_types;  // as in the file, one per entry
  std::vector<GgufTensor> tensors;
};

class GgufFile {
 public:
  /// Opens `path` and, when it is part of a split (`-00001-of-0000N.gguf`, metadata `split.count`), every
  /// other part. Errors: ERR_INVALID_FILE (the bytes contradict the format), ERR_UNSUPPORTED_FILE (an
  /// unsupported version, byte order, tensor type or size), ERR_FILE_NOT_FOUND (also for a missing part),
  /// ERR_IO.
  static GgufFile open(const std::string& path);
  /// The same for an open file; `open_part` opens the other parts of a split.
  static GgufFile open(std::shared_ptr<const File> file, const FileOpener& open_part);

  /// The path that was opened.
  const std::string& path() const noexcept { return path_; }
  std::uint32_t version() const noexcept { return version_; }
  /// The parts of a split in order, else the one file.
  const std::vector<std::shared_ptr<const File>>& files() const noexcept { return files_; }
  std::uint64_t total_file_bytes() const noexcept;

  /// The metadata of the first part, in file order; keys are unique.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const noexcept { return metadata_; }
  /// The type of entry `i` in the file.
  GgufType metadata_type(std::size_t i) const { return metadata_types_.at(i); }
  const GgufValue* find(std::string_view key) const noexcept;

  // Typed getters throw ERR_INVALID_MODEL naming the key, the expected and the found type; get_* also throws
  // when the key is missing, find_* then returns nothing. An unsigned integer may be stored in any integer
  // type, a float in any numeric type.
  std::string get_string(std::string_view key) const;
  std::uint64_t get_uint(std::string_view key) const;
  double get_float(std::string_view key) const;
  bool get_bool(std::string_view key) const;
  const GgufArray& get_array(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<std::uint64_t> find_uint(std::string_view key) const;
  std::optional<double> find_float(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  const GgufArray* find_array(std::string_view key) const;

  /// Frees the metadata: a vocabulary takes tens of megabytes.
  void drop_metadata() noexcept;

  /// Names are unique.
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const noexcept;

 private:
  GgufFile() = default;
  void build_indices();

  std::string path_;
  std::uint32_t version_ = 0;
  std::vector<std::shared_ptr<const File>> files_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufType> metadata_types_;
  std::vector<GgufTensor> tensors_;
  // Positions sorted by name. Unlike a hash table, no choice of names in a file makes the lookup slow.
  std::vector<std::uint32_t> metadata_order_;
  std::vector<std::uint32_t> tensor_order_;
};

}  // namespace cria
