// Read-only files by positional reads: no shared cursor, so many threads may read at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cria {

class File {
 public:
  /// Errors: ERR_FILE_NOT_FOUND, ERR_IO (a directory, no permission, ...), each naming the path.
  static std::shared_ptr<const File> open(const std::string& path);
  virtual ~File() = default;

  virtual const std::string& path() const = 0;
  virtual std::uint64_t size() const = 0;  // at opening
  /// Fills [dst, dst + bytes) from `offset`. Throws ERR_IO on failure, also when the file has become shorter.
  virtual void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const = 0;
};

}  // namespace cria
