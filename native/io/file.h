// Read-only files with positional reads: there is no shared cursor, so several threads may read at once.
// POSIX only for now.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cria {

class File {
 public:
  /// Opens a regular file. Errors, each naming the path: ERR_FILE_NOT_FOUND; ERR_IO for a directory, a pipe,
  /// a device or a missing permission; ERR_INVALID_ARGUMENT for a path with a NUL byte.
  static std::shared_ptr<const File> open(const std::string& path);

  /// The same interface for bytes in memory; `name` takes the place of the path in messages.
  static std::shared_ptr<const File> from_memory(std::string name, std::vector<std::uint8_t> bytes);

  virtual ~File() = default;

  virtual const std::string& path() const = 0;
  /// Bytes when the file was opened.
  virtual std::uint64_t size() const = 0;
  /// Fills [dst, dst + bytes) with the bytes at `offset`. Throws ERR_IO on failure, also when the file has
  /// been truncated since it was opened.
  virtual void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const = 0;
};

/// Opens the other files that a file refers to (the other parts of a split, of a folder).
using FileOpener = std::function<std::shared_ptr<const File>(const std::string& path)>;

/// Nothing where `open` throws ERR_FILE_NOT_FOUND.
std::shared_ptr<const File> open_if_exists(const FileOpener& open, const std::string& path);

/// The whole file. Throws ERR_UNSUPPORTED_FILE for one of more than `max_bytes`.
std::string read_text(const File& file, std::uint64_t max_bytes);

}  // namespace cria
