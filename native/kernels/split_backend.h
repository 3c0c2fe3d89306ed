// A model on two backends: the embedding, the first layers and the output on the host, the last layers on a
// device that has no room for more. It knows both backends through backend.h alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace cria {

/// How much of a model fits a device.
struct DeviceFit {
  // How many of the last layers fit. All of them: the embedding and the output fit too.
  std::int32_t layers = 0;
  // Bytes that the whole model would take, its cache included.
  std::uint64_t needed = 0;
  // Bytes.
  std::uint64_t available = 0;
};
DeviceFit fit_of(Backend& device, const BackendOptions& options);

/// The last `gpu_layers` of `n_layers` (at least one, not all) run on `device`, the others on `host`. Pages
/// have the device's size, which must be a multiple of the host's (else ERR_INTERNAL). `reason` begins the
/// device_reason.
std::unique_ptr<Backend> create_split_backend(std::unique_ptr<Backend> host, std::unique_ptr<Backend> device,
                                              std::int32_t n_layers, std::int32_t gpu_layers,
                                              const std::string& reason);

}  // namespace cria
