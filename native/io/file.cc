#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "io/file_error.h"

namespace cria {
namespace {

static_assert(sizeof(off_t) == 8, "files beyond 2 GiB need a 64-bit off_t");

// Linux moves at most 0x7ffff000 bytes per read; macOS refuses more than INT_MAX.
constexpr std::size_t kMaxReadBytes = std::size_t{1} << 30;

[[noreturn]] void throw_truncated(const std::string& path, std::uint64_t offset, std::size_t bytes,
                                  std::uint64_t size) {
  throw Error(ErrorCode::io,
              path + ": expected " + std::to_string(bytes) + " bytes at byte " + std::to_string(offset) +
                  ", found the end of the file, which had " + std::to_string(size) + " bytes when opened",
              {{"path", path}, {"offset", offset}, {"size", size}});
}

class PosixFile final : public File {
 public:
  explicit PosixFile(const std::string& path) : path_(path) {
    check_path(path);
    // O_NONBLOCK: opening a pipe without a writer would block forever. Regular files are unaffected.
    do fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd_ < 0 && errno == EINTR);
    if (fd_ < 0) {
      const int error = errno;
      const bool missing = error == ENOENT || error == ENOTDIR;
      throw_os_error(missing ? ErrorCode::file_not_found : ErrorCode::io, path, "cannot open the file",
                     error);
    }
    struct stat status;
    if (::fstat(fd_, &status) != 0) {
      const int error = errno;
      ::close(fd_);
      throw_os_error(ErrorCode::io, path, "cannot stat the file", error);
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(fd_);
      throw_not_regular(path, status.st_mode);
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override { ::close(fd_); }

  const std::string& path() const override { return path_; }
  std::uint64_t size() const override { return size_; }

  void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const override {
    if (offset > size_ || bytes > size_ - offset) throw_truncated(path_, offset, bytes, size_);
    auto* out = static_cast<std::uint8_t*>(dst);
    while (bytes > 0) {
      const ssize_t got = ::pread(fd_, out, std::min(bytes, kMaxReadBytes), static_cast<off_t>(offset));
      if (got < 0) {
        if (errno == EINTR) continue;
        throw_os_error(ErrorCode::io, path_, "cannot read at byte " + std::to_string(offset), errno);
      }
      if (got == 0) throw_truncated(path_, offset, bytes, size_);
      out += got;
      offset += static_cast<std::uint64_t>(got);
      bytes -= static_cast<std::size_t>(got);
    }
  }

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

class MemoryFile final : public File {
 public:
  MemoryFile(std::string name, std::vector<std::uint8_t> bytes)
      : path_(std::move(name)), bytes_(std::move(bytes)) {}

  const std::string& path() const override { return path_; }
  std::uint64_t size() const override { return bytes_.size(); }

  void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const override {
    if (offset > bytes_.size() || bytes > bytes_.size() - offset)
      throw_truncated(path_, offset, bytes, bytes_.size());
    if (bytes > 0) std::memcpy(dst, bytes_.data() + offset, bytes);
  }

 private:
  std::string path_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace

std::shared_ptr<const File> open_if_exists(const FileOpener& open, const std::string& path) {
  try {
    return open(path);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::file_not_found) return nullptr;
    throw;
  }
}

std::string read_text(const File& file, std::uint64_t max_bytes) {
  if (file.size() > max_bytes) {
    throw Error(ErrorCode::unsupported_file,
                file.path() + ": expected at most " + std::to_string(max_bytes) + " bytes, found " +
                    std::to_string(file.size()),
                {{"path", file.path()}, {"expected", max_bytes}, {"found", file.size()}});
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

std::shared_ptr<const File> File::open(const std::string& path) {
  return std::make_shared<const PosixFile>(path);
}

std::shared_ptr<const File> File::from_memory(std::string name, std::vector<std::uint8_t> bytes) {
  return std::make_shared<const MemoryFile>(std::move(name), std::move(bytes));
}

}  // namespace cria
