// GGUF reader: untrusted bytes -> typed metadata and bounds-checked tensor descriptions. It does not read the
// tensors' data. Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3,
// little endian.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/model_source.h"

namespace cria {

/// The contents of one GGUF file (a whole model or one part of a split), checked on its own.
struct GgufPart {
  std::uint32_t version = 0;
  std::vector<std::pair<std::string, GgufValue>> metadata;
  std::vector<GgufType> metadata_types;  // as in the file, one per entry
  std::vector<GgufTensor> tensors;
};

class GgufFile final : public ModelSource {
 public:
  /// Opens `path` and, when it is part of a split (`-00001-of-0000N.gguf`, metadata `split.count`), every
  /// other part. Errors: ERR_INVALID_FILE (the bytes contradict the format), ERR_UNSUPPORTED_FILE (an
  /// unsupported version, byte order, tensor type or size), ERR_FILE_NOT_FOUND (also for a missing part),
  /// ERR_IO.
  static GgufFile open(const std::string& path);
  /// The same for an open file; `open_part` opens the other parts of a split.
  static GgufFile open(std::shared_ptr<const File> file, const FileOpener& open_part);

  std::string_view format() const noexcept override { return "gguf"; }
  std::uint32_t version() const noexcept { return version_; }
  void read(const GgufTensor& tensor, std::uint64_t offset, void* dst, std::size_t bytes) const override;
  bool is_mappable() const noexcept override { return true; }

 private:
  GgufFile() = default;
  void check_duplicate_tensors() const;

  std::uint32_t version_ = 0;
};

}  // namespace cria
