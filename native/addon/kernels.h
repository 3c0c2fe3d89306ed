// NativeKernels of lib/kernels/native.ts: kernels that a script calls and measures.
#pragma once

#include <napi.h>

#include <list>
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace cria {

/// The backends used last, by device, instruction-set level and number of threads. Only the kernel thread
/// uses it.
class KernelRuntime {
 public:
  /// A backend with these options; creates it where it is not among those used last.
  Backend& backend(const BackendOptions& options);

 private:
  struct Entry {
    BackendOptions options;
    std::unique_ptr<Backend> backend;
  };
  static constexpr std::size_t kMaxBackends = 4;
  std::list<Entry> entries_;  // most recently used first
};

Napi::Object kernels_to_js(Napi::Env env);

}  // namespace cria
