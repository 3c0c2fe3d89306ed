// A block's shared memory: NaN when the block starts, with guard gaps around its regions and arrays.
#include <cstring>
#include <vector>

#include "cuda_emulation/emulation.h"
#include "cuda_emulation/grid.h"

#ifdef CRIA_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cria::cuda::emulation {
namespace {

constexpr std::size_t kGap = 256;  // between regions
constexpr std::size_t kArenaAlignment = 1024;

void poison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#ifdef CRIA_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}
void unpoison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#ifdef CRIA_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

/// Takes room in the arena, with a guard gap behind it; the one before it is the previous region's.
unsigned char* take_region(Block& block, std::size_t bytes, std::size_t alignment) {
  const std::size_t at = (block.shared_used + alignment - 1) / alignment * alignment;
  if (at + bytes + kGap > kSharedArena) fault("more shared memory than the emulator has");
  unsigned char* p = block.shared + at;
  unpoison(p, bytes);
  std::memset(p, kNanByte, bytes);
  block.shared_used = at + bytes;
  guard_shared(block.shared + block.shared_used, kGap);
  block.shared_used += kGap;
  return p;
}

}  // namespace

void begin_shared_memory(Block& block) {
  if (!block.arena) {
    block.arena = std::make_unique<unsigned char[]>(kSharedArena + kArenaAlignment);
    const auto address = reinterpret_cast<std::uintptr_t>(block.arena.get());
    block.shared = block.arena.get() + (kArenaAlignment - address % kArenaAlignment) % kArenaAlignment;
  }
  for (const SharedGuard& g : block.guards) unpoison(g.begin, g.bytes);
  block.guards.clear();
  block.regions.clear();
  block.shared_used = kGap;
}

void guard_shared(void* guard, std::size_t bytes) {
  std::memset(guard, kGuardByte, bytes);
  current->block->guards.push_back({static_cast<unsigned char*>(guard), bytes});
  poison(guard, bytes);
}

void check_shared_guards(const Block& block) {
  for (const SharedGuard& g : block.guards) {
    unpoison(g.begin, g.bytes);
    static const std::vector<unsigned char> pattern(kGap, kGuardByte);
    if (std::memcmp(g.begin, pattern.data(), g.bytes) == 0) {
      poison(g.begin, g.bytes);
      continue;
    }
    for (std::size_t i = 0; i < g.bytes; i++)
      if (g.begin[i] != kGuardByte)
        fault("shared memory was written %zu bytes behind the end of an array (seen here, done before)", i);
  }
}

void shared_index_out_of_bounds(int index, int size) {
  fault("shared memory: index %d of an array of %d", index, size);
}

void check_shared_range(const void* p, std::size_t bytes, const char* operation) {
  const auto* byte = static_cast<const unsigned char*>(p);
  for (const SharedRegion& r : current->block->regions)
    if (byte >= r.at && byte + bytes <= r.at + r.usable) return;
  fault("%s: %zu bytes that are not in the block's shared memory", operation, bytes);
}

void* static_shared(const void* key, std::size_t bytes, std::size_t alignment, void (*construct)(void*)) {
  Block& block = *current->block;
  for (const SharedRegion& r : block.regions)
    if (r.key == key) return r.at;
  unsigned char* at = take_region(block, bytes, alignment < 16 ? 16 : alignment);
  block.regions.push_back({key, 0, bytes, at, bytes});
  construct(at);
  return at;
}

void* dynamic_shared(std::size_t offset, std::size_t bytes, std::size_t used, std::size_t alignment) {
  Block& block = *current->block;
  if (offset + bytes > grid.config->dynamic_shared)
    fault("dynamic shared memory: bytes %zu to %zu of %zu that the launch gave", offset, offset + bytes,
          grid.config->dynamic_shared);
  if (offset % alignment) fault("dynamic shared memory: offset %zu is not aligned to %zu", offset, alignment);
  for (const SharedRegion& r : block.regions) {
    if (r.key) continue;
    if (r.offset == offset && r.bytes == bytes) return r.at;
    if (offset < r.offset + r.bytes && r.offset < offset + bytes)
      fault("dynamic shared memory: bytes %zu to %zu are carved differently by another thread", offset,
            offset + bytes);
  }
  unsigned char* at = take_region(block, used, alignment < 128 ? 128 : alignment);
  block.regions.push_back({nullptr, offset, bytes, at, used});
  return at;
}

}  // namespace cria::cuda::emulation
