// A file that appears whole or not at all. POSIX only for now.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cria {

/// Writes to a temporary file in the target's folder and renames it over the target at the end. Until
/// commit() an existing target is untouched, and without it the temporary file goes with the object; only a
/// process that is killed leaves one behind, named ".cria-<16 hex digits>.tmp". Writers of one target do not
/// disturb each other: the last to commit wins. Not for use by several threads.
class AtomicFile {
 public:
  /// Creates the temporary file, readable and writable for its owner alone. A symbolic link at the path will
  /// be replaced, not followed. Errors: ERR_INVALID_ARGUMENT for a path that names no file or holds a NUL
  /// byte; ERR_IO for a folder that is missing or not writable, and for a target that is a directory, a
  /// device, a pipe or a socket.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Writes `bytes` bytes from byte `offset` on. Throws ERR_IO, e.g. for a full disk.
  void write_at(std::uint64_t offset, const void* src, std::size_t bytes);

  /// Brings what was written to the disk and puts it in the target's place; to be called once. Throws ERR_IO;
  /// the target is then as it was, unless the message says that only the folder could not be synced.
  void commit();

 private:
  void create_temporary();
  [[noreturn]] void fail(const std::string& what, int error) const;

  std::string path_;       // as asked for
  std::string name_;       // its last component
  std::string temporary_;  // beside it; empty once renamed
  int folder_ = -1;        // every name is looked up in it, so a change of the working directory does no harm
  int file_ = -1;
};

}  // namespace cria
