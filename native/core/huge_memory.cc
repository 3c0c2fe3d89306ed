#include "core/huge_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "core/error.h"

namespace cria {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// The first line of a small text file below /proc or /sys, or "".
std::string first_line(const char* path) {
  std::string line;
  if (std::FILE* f = std::fopen(path, "re")) {
    char buffer[256];
    if (std::fgets(buffer, sizeof buffer, f)) line = buffer;
    std::fclose(f);
  }
  return line;
}

}  // namespace

HugeMemory::HugeMemory(std::size_t bytes, const char* what) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX - 2 * kHugePage) bytes = SIZE_MAX - 2 * kHugePage;
  const std::size_t rounded = (bytes + kHugePage - 1) & ~(kHugePage - 1);
  mapping_bytes_ = rounded + kHugePage;
  void* p = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    throw Error(ErrorCode::out_of_memory,
                std::string("cannot reserve ") + std::to_string(bytes) + " bytes for " + what,
                {{"requestedBytes", bytes}, {"availableBytes", available_memory()}});
  }
  mapping_ = p;
  const auto base = (reinterpret_cast<std::uintptr_t>(p) + kHugePage - 1) & ~(kHugePage - 1);
  data_ = reinterpret_cast<std::byte*>(base);
  size_ = bytes;
#if defined(MADV_HUGEPAGE)
  ::madvise(data_, rounded, MADV_HUGEPAGE);  // may fail: without huge pages everything works, only slower
#endif
}

HugeMemory::~HugeMemory() {
  if (mapping_) ::munmap(mapping_, mapping_bytes_);
}

std::size_t available_memory() noexcept {
  try {
    std::size_t available = SIZE_MAX;
#if defined(__linux__)
    if (std::FILE* f = std::fopen("/proc/meminfo", "re")) {
      char line[256];
      unsigned long long kib;
      while (std::fgets(line, sizeof line, f))
        if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
          available = static_cast<std::size_t>(kib) << 10;
      std::fclose(f);
    }
    const std::string limit = first_line("/sys/fs/cgroup/memory.max");
    const std::string used = first_line("/sys/fs/cgroup/memory.current");
    if (!limit.empty() && limit[0] >= '0' && limit[0] <= '9' && !used.empty()) {
      const unsigned long long max = std::stoull(limit), now = std::stoull(used);
      available = std::min<std::size_t>(available, max > now ? max - now : 0);
    }
#endif
    if (available == SIZE_MAX) {
      const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
      if (pages > 0 && page > 0)
        available = static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) / 2;
    }
    return available;
  } catch (...) {
    return SIZE_MAX;
  }
}

void trim_freed_memory() noexcept {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

int usable_cores() noexcept {
  try {
    int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
      // Logical processors of one core share a line in thread_siblings_list: count each line once.
      std::set<std::string> physical;
      for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        const std::string path =
            "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
        const std::string siblings = first_line(path.c_str());
        physical.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
      }
      cores = static_cast<int>(physical.size());
    }
    const std::string quota = first_line("/sys/fs/cgroup/cpu.max");  // "max 100000" or "150000 100000"
    unsigned long long share, period;
    if (std::sscanf(quota.c_str(), "%llu %llu", &share, &period) == 2 && period > 0)
      cores =
          std::min(cores, static_cast<int>(std::max<unsigned long long>(1, (share + period / 2) / period)));
#endif
    return std::max(cores, 1);
  } catch (...) {
    return 1;
  }
}

}  // namespace cria
