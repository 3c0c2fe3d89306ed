// Writes a file atomically: it appears whole or not at all. POSIX only for now.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cria {

/// Writes to a temporary file in the target's folder and renames it over the target at the end. An existing
/// target is untouched until commit(). Without commit() the destructor removes the temporary file; only a
/// killed process leaves one behind, named ".cria-<16 hex digits>.tmp". Several writers of one target do not
/// disturb each other: the last to commit wins.
class AtomicFile {
 public:
  /// Permissions of a file that others may read, as the process's umask allows.
  static constexpr std::uint32_t kReadableByOthers = 0666;

  /// Creates the temporary file, by default readable and writable only by its owner. commit() replaces a
  /// symbolic link at the path and does not follow it. Errors: ERR_INVALID_ARGUMENT for a path that names no
  /// file or contains a NUL byte; ERR_IO for a folder that is missing or not writable, and for a target that
  /// is a directory, a device, a pipe or a socket.
  explicit AtomicFile(std::string path, std::uint32_t permissions = 0600);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Writes `bytes` bytes at byte `offset`. Several threads may write different ranges. Throws ERR_IO, e.g.
  /// for a full disk.
  void write_at(std::uint64_t offset, const void* src, std::size_t bytes);

  /// Syncs the file to disk and renames it to the target. Call it once. Throws ERR_IO; the target is then
  /// unchanged, unless the message says that only the folder could not be synced.
  void commit();

 private:
  void create_temporary(std::uint32_t permissions);
  [[noreturn]] void fail(const std::string& what, int error) const;

  std::string path_;       // as given
  std::string name_;       // its last component
  std::string temporary_;  // name of the temporary file; empty once renamed
  int folder_ = -1;        // names are resolved in it, so that a change of the working directory is harmless
  int file_ = -1;
};

}  // namespace cria
