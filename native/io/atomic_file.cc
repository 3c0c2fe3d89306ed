#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

// Linux moves at most 0x7ffff000 bytes per write; macOS refuses more than INT_MAX.
constexpr std::size_t kMaxWriteBytes = std::size_t{1} << 30;
constexpr int kMaxNames = 16;  // names have 64 random bits: even one collision is next to impossible

/// Returns 0 or the errno.
int sync_to_disk(int fd) noexcept {
#if defined(F_FULLFSYNC)
  // macOS: fsync() alone leaves the data in the drive's cache. Some file systems know only fsync().
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
  int result;
  do result = ::fsync(fd);
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

}  // namespace

AtomicFile::AtomicFile(std::string path, std::uint32_t permissions) : path_(std::move(path)) {
  check_path(path_);
  const std::size_t slash = path_.rfind('/');
  name_ = path_.substr(slash == std::string::npos ? 0 : slash + 1);
  if (name_.empty())
    throw Error(ErrorCode::invalid_argument, "expected a path that names a file, found " + quote(path_),
                {{"path", path_}, {"expected", "a path that names a file"}});
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  do folder_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  while (folder_ < 0 && errno == EINTR);
  if (folder_ < 0) fail("cannot open the folder to write to", errno);
  try {
    // rename() would replace a device too: a target of "/dev/null" must not cost the machine its /dev/null.
    struct stat status;
    if (::fstatat(folder_, name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(status.st_mode) &&
        !S_ISLNK(status.st_mode))
      throw_not_regular(path_, status.st_mode);
    create_temporary(permissions);
  } catch (...) {
    ::close(folder_);
    throw;
  }
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlinkat(folder_, temporary_.c_str(), 0);
  ::close(folder_);
}

void AtomicFile::create_temporary(std::uint32_t permissions) {
  for (int i = 0; i < kMaxNames; ++i) {
    // Unpredictable, so that another user of the folder cannot create the name in advance.
    std::uint64_t random;
    if (::getentropy(&random, sizeof(random)) != 0) fail("cannot get random bytes for a name", errno);
    std::string name = ".cria-" + hex(random) + ".tmp";
    do
      file_ = ::openat(folder_, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                       static_cast<mode_t>(permissions));
    while (file_ < 0 && errno == EINTR);
    if (file_ >= 0) {
      temporary_ = std::move(name);
      return;
    }
    if (errno != EEXIST) break;
  }
  fail("cannot create a temporary file beside it", errno);
}

void AtomicFile::write_at(std::uint64_t offset, const void* src, std::size_t bytes) {
  const auto* in = static_cast<const std::uint8_t*>(src);
  while (bytes > 0) {
    const ssize_t done = ::pwrite(file_, in, std::min(bytes, kMaxWriteBytes), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    // A file system should never report success for zero bytes; if one does, this loop must still end.
    if (done <= 0) fail("cannot write at byte " + std::to_string(offset), done < 0 ? errno : EIO);
    in += done;
    offset += static_cast<std::uint64_t>(done);
    bytes -= static_cast<std::size_t>(done);
  }
}

void AtomicFile::commit() {
  if (const int error = sync_to_disk(file_)) fail("cannot sync the file to disk", error);
  // Network file systems may report a failed write only here. The descriptor is closed in either case.
  const int fd = std::exchange(file_, -1);
  if (::close(fd) != 0 && errno != EINTR) fail("cannot close the file", errno);
  if (::renameat(folder_, temporary_.c_str(), folder_, name_.c_str()) != 0)
    fail("cannot rename the temporary file to it", errno);
  temporary_.clear();
  // Without this a power failure may undo the rename. Some file systems do not support syncing a folder.
  const int error = sync_to_disk(folder_);
  if (error != 0 && error != EINVAL && error != ENOTSUP)
    fail("the file is in place, but its folder could not be synced", error);
}

void AtomicFile::fail(const std::string& what, int error) const {
  throw_os_error(ErrorCode::io, path_, what, error);
}

}  // namespace cria
