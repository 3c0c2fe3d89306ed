// Large anonymous memory, 2 MiB-aligned and advised for huge pages: with 4 KiB pages decode loses about 15 %
// to the TLB.
#pragma once

#include <cstddef>
#include <utility>

namespace cria {

class HugeMemory {
 public:
  HugeMemory() = default;
  /// Zero-filled; pages are only taken when touched. Throws ERR_OUT_OF_MEMORY, saying what was wanted and
  /// `what` for.
  HugeMemory(std::size_t bytes, const char* what);
  ~HugeMemory();
  HugeMemory(HugeMemory&& other) noexcept { swap(other); }
  HugeMemory& operator=(HugeMemory&& other) noexcept {
    swap(other);
    return *this;
  }

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void swap(HugeMemory& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  void* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
};

/// Memory the process may still take, in bytes: the smaller of the system's available memory and the cgroup's
/// rest.
std::size_t available_memory() noexcept;

/// Gives memory that was freed back to the system where the allocator would keep it.
void trim_freed_memory() noexcept;

/// Physical cores this process may run on: affinity, hyper-thread siblings and the cgroup's CPU quota counted
/// in.
int usable_cores() noexcept;

}  // namespace cria
