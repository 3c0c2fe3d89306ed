// The only way to start a kernel. <<<>>> would not compile on the host and would lose errors.
//
//   launch({.name = "rms_norm", .grid = {rows}, .block = {256}, .stream = stream}, rms_norm_kernel,
//          x, weight, out, n);
//
// Arguments are converted to the kernel's parameter types and copied.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

struct LaunchConfig {
  const char* name;  // for error messages
  Dim3 grid, block;
  std::size_t dynamic_shared = 0;  // bytes, as DynamicShared takes them (device.cuh)
  Stream stream = nullptr;
  /// All blocks are resident at once, so they may wait for each other. Throws when they do not fit.
  bool cooperative = false;
  /// Programmatic dependent launch (sm_90): the kernel may begin before the stream's previous kernel has
  /// ended. It must call grid_dependency_wait() (ptx.cuh) before it touches anything that kernel wrote.
  bool overlaps_previous = false;
};

/// A kernel with its argument types erased. `arguments` points to a std::tuple of the parameters.
struct KernelCall {
  /// The function's address.
  const void* kernel;
  /// Calls it on the CPU, for the emulator.
  void (*run)(const void* kernel, void* arguments);
  /// Writes the address of each argument to `out`.
  void (*pointers)(void* arguments, void** out);
  /// Copies and frees arguments, for the emulator's graphs.
  void* (*copy)(const void* arguments);
  void (*drop)(void* arguments);
  std::size_t count;
};

namespace detail {
void launch_kernel(const LaunchConfig& config, const KernelCall& call, void* arguments);
}

template <class... Params, class... Args>
void launch(const LaunchConfig& config, void (*kernel)(Params...), Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument for each parameter of the kernel");
  using Arguments = std::tuple<std::remove_cv_t<Params>...>;
  static_assert((std::is_trivially_copyable_v<Params> && ...), "parameters are copied as bytes");
  Arguments arguments(static_cast<Params>(std::forward<Args>(args))...);
  KernelCall call{};
  call.kernel = reinterpret_cast<const void*>(kernel);
#ifdef CRIA_CUDA_EMULATED
  call.run = [](const void* function, void* values) {
    std::apply(reinterpret_cast<void (*)(Params...)>(const_cast<void*>(function)),
               *static_cast<Arguments*>(values));
  };
  call.copy = [](const void* values) -> void* {
    return new Arguments(*static_cast<const Arguments*>(values));
  };
  call.drop = [](void* values) { delete static_cast<Arguments*>(values); };
#endif
  call.pointers = [](void* values, void** out) {
    std::apply([&](auto&... value) { ((*out++ = const_cast<void*>(static_cast<const void*>(&value))), ...); },
               *static_cast<Arguments*>(values));
  };
  call.count = sizeof...(Params);
  detail::launch_kernel(config, call, &arguments);
}

}  // namespace cria::cuda
