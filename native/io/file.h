// Read-only files by positional reads: no shared cursor, so many threads may read at once. POSIX only for
// now.
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
  /// Opens a regular file. Errors: ERR_FILE_NOT_FOUND; ERR_IO for a directory, a pipe, a device, a missing
  /// permission; ERR_INVALID_ARGUMENT for a path with a NUL byte. Each names the path.
  static std::shared_ptr<const File> open(const std::string& path);

  /// The same interface over bytes in memory; `name` stands for the path in messages.
  static std::shared_ptr<const File> from_memory(std::string name, std::vector<std::uint8_t> bytes);

  virtual ~File() = default;

  virtual const std::string& path() const = 0;
  virtual std::uint64_t size() const = 0;  // at opening
  /// Fills [dst, dst + bytes) from `offset`, however many system calls that takes. Throws ERR_IO on failure,
  /// also when the file has become shorter.
  virtual void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const = 0;
};

/// How a reader gets at further files that a file names (the other parts of a split one).
using FileOpener = std::function<std::shared_ptr<const File>(const std::string& path)>;

}  // namespace cria
