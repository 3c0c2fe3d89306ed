#include "cuda_emulation/device_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <string>

#include "cuda_emulation/grid.h"

#ifdef CRIA_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cria::cuda::emulation {
namespace {

constexpr std::size_t kRedzone = 512, kAlignment = 256;
constexpr std::uintptr_t kPage = 65536;                // or less, on any machine
constexpr std::size_t kArena = std::size_t{64} << 30;  // of address space; memory is committed when touched

struct Allocation {
  std::size_t bytes;  // requested
  std::size_t span;   // with both redzones
};

struct Memory {
  unsigned char* arena = nullptr;
  std::size_t used = 0;
  std::size_t allocated = 0, total = std::size_t{8} << 30;
  std::map<std::uintptr_t, Allocation> live;        // by the address of the caller's bytes
  std::multimap<std::size_t, unsigned char*> free;  // spans to reuse, by size
};
Memory& memory() {
  static auto* const memory = new Memory;
  return *memory;
}

void poison([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#ifdef CRIA_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}
void unpoison([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#ifdef CRIA_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

std::size_t tail_of(const Allocation& a) { return a.span - kRedzone - a.bytes; }

}  // namespace

void* allocate_device_memory(std::size_t bytes) {
  Memory& m = memory();
  if (bytes > m.total || m.allocated > m.total - bytes) return nullptr;
  if (!m.arena) {
    void* p =
        mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    m.arena = static_cast<unsigned char*>(p);
  }
  const std::size_t span = kRedzone + (bytes + kAlignment - 1) / kAlignment * kAlignment + kRedzone;
  unsigned char* base;
  if (const auto reuse = m.free.find(span); reuse != m.free.end()) {
    base = reuse->second;
    m.free.erase(reuse);
  } else {
    if (span > kArena - m.used) return nullptr;
    base = m.arena + m.used;
    m.used += span;
  }
  unpoison(base, span);
  std::memset(base, kGuardByte, kRedzone);
  std::memset(base + kRedzone, kNanByte, bytes);
  std::memset(base + kRedzone + bytes, kGuardByte, span - kRedzone - bytes);
  poison(base, kRedzone);
  poison(base + kRedzone + bytes, span - kRedzone - bytes);
  unsigned char* p = base + kRedzone;
  m.live[reinterpret_cast<std::uintptr_t>(p)] = {bytes, span};
  m.allocated += bytes;
  return p;
}

bool free_device_memory(void* p) {
  Memory& m = memory();
  const auto found = m.live.find(reinterpret_cast<std::uintptr_t>(p));
  if (found == m.live.end()) return false;
  unsigned char* base = static_cast<unsigned char*>(p) - kRedzone;
  const Allocation a = found->second;
  m.allocated -= a.bytes;
  m.live.erase(found);
  unpoison(base, a.span);
  std::memset(base, kGuardByte, a.span);
  // Whole pages within the span: the kernel would round up into its neighbour.
  const auto begin = (reinterpret_cast<std::uintptr_t>(base) + kPage - 1) / kPage * kPage,
             end = (reinterpret_cast<std::uintptr_t>(base) + a.span) / kPage * kPage;
  if (a.span > std::size_t{1} << 20)
    madvise(reinterpret_cast<void*>(begin), static_cast<std::size_t>(end - begin), MADV_DONTNEED);
  poison(base, a.span);
  m.free.emplace(a.span, base);
  return true;
}

bool in_device_memory(const void* p, std::size_t bytes) {
  const Memory& m = memory();
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  auto after = m.live.upper_bound(address);
  if (after == m.live.begin()) return false;
  const auto& [begin, a] = *std::prev(after);
  return address - begin <= a.bytes && bytes <= a.bytes - (address - begin);
}

bool in_device_arena(const void* p) {
  const Memory& m = memory();
  const auto* byte = static_cast<const unsigned char*>(p);
  return m.arena && byte >= m.arena && byte < m.arena + kArena;
}

std::size_t available_device_memory() {
  const Memory& m = memory();
  return m.total > m.allocated ? m.total - m.allocated : 0;
}
std::size_t total_device_memory() { return memory().total; }
void set_total_device_memory(std::size_t bytes) { memory().total = bytes; }
std::size_t device_allocations() { return memory().live.size(); }

std::string check_redzones() {
  static const unsigned char* const pattern = [] {
    auto* p = new unsigned char[kRedzone + kAlignment];
    std::memset(p, kGuardByte, kRedzone + kAlignment);
    return p;
  }();
  std::string damage;
  for (const auto& [address, a] : memory().live) {
    auto* p = reinterpret_cast<unsigned char*>(address);
    unpoison(p - kRedzone, kRedzone);
    unpoison(p + a.bytes, tail_of(a));
    const bool intact = std::memcmp(p - kRedzone, pattern, kRedzone) == 0 &&
                        std::memcmp(p + a.bytes, pattern, tail_of(a)) == 0;
    for (std::size_t i = 0; i < kRedzone && !intact && damage.empty(); i++)
      if (p[-1 - static_cast<std::ptrdiff_t>(i)] != kGuardByte)
        damage = "device memory was written " + std::to_string(i + 1) + " bytes before an allocation of " +
                 std::to_string(a.bytes);
    for (std::size_t i = 0; i < tail_of(a) && !intact && damage.empty(); i++)
      if (p[a.bytes + i] != kGuardByte)
        damage = "device memory was written " + std::to_string(i) + " bytes behind an allocation of " +
                 std::to_string(a.bytes);
    if (!damage.empty()) {  // report it once
      std::memset(p - kRedzone, kGuardByte, kRedzone);
      std::memset(p + a.bytes, kGuardByte, tail_of(a));
    }
    poison(p - kRedzone, kRedzone);
    poison(p + a.bytes, tail_of(a));
    if (!damage.empty()) break;
  }
  return damage;
}

}  // namespace cria::cuda::emulation
