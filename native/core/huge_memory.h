// Large anonymous memory, aligned to 2 MiB and advised for huge pages: with 4 KiB pages, TLB misses cost
// decode about 15 %. Also what the process may still use of the machine: memory and cores.
#pragma once

#include <cstddef>
#include <utility>

namespace cria {

class HugeMemory {
 public:
  HugeMemory() = default;
  /// Zero-filled; a page takes physical memory when it is first touched. Throws ERR_OUT_OF_MEMORY with the
  /// requested and the available bytes; `what` names the purpose in the message.
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

/// Bytes the process may still allocate: the smaller of the system's available memory and what the cgroup's
/// limit leaves.
std::size_t available_memory() noexcept;

/// Returns freed memory to the system where the allocator would keep it.
void trim_freed_memory() noexcept;

/// Physical cores that this process may use. Respects the CPU affinity and the cgroup's CPU quota, and counts
/// hyper-thread siblings once.
int usable_cores() noexcept;

}  // namespace cria
