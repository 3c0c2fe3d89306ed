#include "io/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "core/error.h"

namespace cria {

FileMapping::FileMapping(const File& file) : size_(static_cast<std::size_t>(file.size())) {
  if (size_ == 0) return;
  const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status{};
  const bool same =
      fd >= 0 && ::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == file.size();
  void* p = same ? ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  const int error = errno;
  if (fd >= 0) ::close(fd);  // the mapping outlives the descriptor
  if (p == MAP_FAILED) {
    throw Error(ErrorCode::io,
                file.path() + ": cannot map the file: " +
                    (fd >= 0 && !same ? "it has changed since it was opened"
                                      : std::generic_category().message(error)),
                {{"path", file.path()}});
  }
  data_ = static_cast<const std::byte*>(p);
}

FileMapping::~FileMapping() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace cria
