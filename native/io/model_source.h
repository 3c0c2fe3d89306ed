// Where a model comes from. Whatever is on disk, everything above sees what a GGUF of the model holds: its
// metadata under GGUF's keys, and its tensors with GGUF's names, types and shapes. So every format has one
// path from there on, and two forms of a model give the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "io/file.h"
#include "io/gguf_value.h"

namespace cria {

struct GgufTensor {
  std::string name;
  DType dtype;               // one of the weight types
  std::uint32_t n_dims;      // 1 to 4
  std::uint64_t dims[4];     // innermost first (GGUF's order): cols, rows, ...; 1 beyond n_dims
  std::uint32_t file_index;  // the one of ModelSource::files() with the data, or with the first of them
  std::uint64_t offset;      // GGUF: absolute byte offset in that file
  std::uint64_t bytes;

  /// Does not overflow: the readers checked it.
  std::uint64_t elements() const noexcept { return dims[0] * dims[1] * dims[2] * dims[3]; }
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  /// Opens a GGUF, the folder of a Hugging Face model or of Meta's release files, or such a folder given by
  /// its config.json, params.json, or a file with weights. Errors: those of GgufFile::open, open_hf_folder
  /// and open_meta_folder.
  static std::unique_ptr<ModelSource> open(const std::string& path);

  /// The file that was opened, or the folder.
  const std::string& path() const noexcept { return path_; }
  /// "gguf", "huggingface" or "meta".
  virtual std::string_view format() const noexcept = 0;
  /// The files with the tensors: the parts of a split in order, or the one file.
  const std::vector<std::shared_ptr<const File>>& files() const noexcept { return files_; }
  std::uint64_t total_file_bytes() const noexcept;

  /// In the file's order; keys are unique.
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const noexcept { return metadata_; }
  /// The type of entry `i`, as a GGUF stores it.
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

  /// Appends an entry, or replaces the value of an existing key.
  void set_metadata(std::string key, GgufType type, GgufValue value);
  /// Frees the metadata: a vocabulary takes tens of megabytes.
  void drop_metadata() noexcept;

  /// Names are unique.
  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const noexcept;

  /// Fills [dst, dst + bytes) with the tensor's data from byte `offset` on, as a GGUF has them: rows of the
  /// shape and type that the description names. Several threads may read at once. Throws ERR_IO.
  virtual void read(const GgufTensor& tensor, std::uint64_t offset, void* dst, std::size_t bytes) const = 0;

  /// Whether the files hold the tensors' data as read() gives them, at `file_index` and `offset`, so that
  /// they can be mapped.
  virtual bool is_mappable() const noexcept = 0;

 protected:
  ModelSource() = default;
  ModelSource(ModelSource&&) = default;
  ModelSource& operator=(ModelSource&&) = default;

  /// To be called when all metadata and tensors are there. Their names must be unique.
  void build_indices();

  std::string path_;
  std::vector<std::shared_ptr<const File>> files_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufType> metadata_types_;
  std::vector<GgufTensor> tensors_;
  // Positions sorted by name. Unlike a hash table, no choice of names in a file makes the lookup slow.
  std::vector<std::uint32_t> metadata_order_;
  std::vector<std::uint32_t> tensor_order_;
};

}  // namespace cria
