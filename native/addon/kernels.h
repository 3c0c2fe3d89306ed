// NativeKernels of lib/kernels/native.ts.
#pragma once

#include <napi.h>

#include <list>
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace cria {

/// The backends that kernels ran on lately, by device, level and number of threads. The kernels' thread alone
/// uses it.
class KernelRuntime {
 public:
  Backend& backend(const BackendOptions& options);

 private:
  struct Entry {
    BackendOptions options;
    std::unique_ptr<Backend> backend;
  };
  static constexpr std::size_t kMax = 4;
  std::list<Entry> entries_;  // the last used first
};

Napi::Object kernels_to_js(Napi::Env env);

}  // namespace cria
