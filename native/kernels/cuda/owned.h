// Owning handles for runtime.h. The device must be set on the thread that destroys them.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

struct ReleaseDeviceMemory {
  void operator()(void* p) const noexcept { release(p); }
};
struct ReleasePinnedMemory {
  void operator()(void* p) const noexcept { release_pinned(p); }
};
struct DestroyHandle {
  template <class T>
  void operator()(T* handle) const noexcept {
    destroy(handle);
  }
};

template <class T>
using DeviceMemory = std::unique_ptr<T[], ReleaseDeviceMemory>;
template <class T>
using PinnedMemory = std::unique_ptr<T[], ReleasePinnedMemory>;
using OwnedStream = std::unique_ptr<OpaqueStream, DestroyHandle>;
using OwnedEvent = std::unique_ptr<OpaqueEvent, DestroyHandle>;
using OwnedGraph = std::unique_ptr<OpaqueGraph, DestroyHandle>;
using OwnedGraphExec = std::unique_ptr<OpaqueGraphExec, DestroyHandle>;

/// n uninitialised elements; null where n is 0.
template <class T>
DeviceMemory<T> allocate_array(std::size_t n, const char* what) {
  return DeviceMemory<T>(n ? static_cast<T*>(allocate(n * sizeof(T), what)) : nullptr);
}
template <class T>
PinnedMemory<T> allocate_pinned_array(std::size_t n, const char* what) {
  return PinnedMemory<T>(n ? static_cast<T*>(allocate_pinned(n * sizeof(T), what)) : nullptr);
}

}  // namespace cria::cuda
