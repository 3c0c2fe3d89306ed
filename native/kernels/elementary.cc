#include "kernels/elementary.h"

#include <cstring>
#include <new>
#include <string>

#include "core/error.h"
#include "core/huge_memory.h"

namespace cria {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugeFrom = std::size_t{1} << 20;      // smaller tensors share pages
constexpr std::size_t kCheckedFrom = std::size_t{64} << 20;  // larger ones must fit what is free

}  // namespace

TensorMemory allocate_host(std::size_t bytes) {
  if (bytes == 0) return {};
  if (bytes >= kCheckedFrom) {
    const std::size_t available = available_memory();
    if (bytes > available)
      throw Error(
          ErrorCode::out_of_memory,
          "a tensor needs " + std::to_string(bytes) + " bytes, available are " + std::to_string(available),
          {{"requestedBytes", bytes}, {"availableBytes", available}});
  }
  if (bytes >= kHugeFrom) {
    auto memory = std::make_shared<HugeMemory>(bytes, "a tensor");
    std::byte* data = memory->data();
    return {std::move(memory), data, bytes};
  }
  // Whole vectors: a kernel may load, though not use, the rest of the last one.
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* data = static_cast<std::byte*>(::operator new(rounded, std::align_val_t{kAlignment}));
  std::shared_ptr<void> owner(data, [](void* p) { ::operator delete(p, std::align_val_t{kAlignment}); });
  std::memset(data, 0, rounded);
  return {std::move(owner), data, bytes};
}

}  // namespace cria
