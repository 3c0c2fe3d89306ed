// The CUDA backend: weights, KV cache and activations in a device's memory, kernels in one stream.
//
// A build has one of three: this one over the CUDA runtime, the same over its emulated twin (tests only), or
// none (no_cuda.cc).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/backend.h"

namespace cria {

/// Whether such a name, "cuda" or "cuda:<n>", means a device of this build.
bool is_cuda_device(std::string_view name);

/// Throws ERR_UNSUPPORTED_DEVICE, saying what is missing: a driver, a newer one, a device, a newer one.
std::unique_ptr<Backend> create_cuda_backend(const BackendOptions& options);

/// For "auto": null where there is no usable device; `why_not` says so.
std::unique_ptr<Backend> create_cuda_backend_if_usable(const BackendOptions& options, std::string& why_not);

}  // namespace cria
