// GGUF writer, version 3, little endian. Source: the GGUF specification (github.com/ggml-org/ggml,
// docs/gguf.md). The file appears whole or not at all (AtomicFile).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "io/atomic_file.h"
#include "io/gguf_value.h"

namespace cria {

/// Metadata and tensors first, then begin(), the data in any order, and commit(). Without commit() nothing is
/// left behind.
class GgufWriter {
 public:
  /// Throws what AtomicFile throws for a path that cannot be written.
  explicit GgufWriter(const std::string& path);

  /// Appends an entry, or replaces the value of a key. The value must hold what `type` stores: ERR_INTERNAL.
  void set(const std::string& key, GgufType type, GgufValue value);
  /// Appends a tensor and returns its index. `dims` in GGUF's order: the contiguous one first, a multiple of
  /// the type's block size. Names are unique and have 1 to 64 bytes: ERR_INTERNAL.
  std::size_t add_tensor(const std::string& name, DType dtype, std::vector<std::uint64_t> dims);

  /// Lays the tensors out and writes everything before their data.
  void begin();
  /// Writes bytes of a tensor's data at byte `offset` within it. Several threads may write different parts.
  void write(std::size_t tensor, std::uint64_t offset, const void* src, std::size_t bytes);
  /// Of the whole file; valid after begin().
  std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  /// Syncs the file and puts it in place.
  void commit();

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<std::uint64_t> dims;
    std::uint64_t offset;  // in the file's data, then in the file
    std::uint64_t bytes;
  };
  std::string header(std::uint64_t* data_begin) const;

  AtomicFile file_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<GgufType> types_;
  std::vector<Tensor> tensors_;
  std::uint64_t file_bytes_ = 0;
};

}  // namespace cria
