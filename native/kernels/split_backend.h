// A model on two backends: the embedding, the first layers and the output on the host, the last layers on a
// device that has no room for more. It knows both by their interface alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace cria {

/// How much of a model fits a device.
struct DeviceFit {
  std::int32_t layers = 0;      // of the last ones; all of them: with the embedding and the output
  std::uint64_t needed = 0;     // bytes that the whole model would take there, with room for its cache
  std::uint64_t available = 0;  // bytes
};
DeviceFit fit_of(const Backend& device, const BackendOptions& options);

/// `gpu_layers`, more than none and less than all of options.n_layers, run on `device`, the others on `host`.
/// Its pages have the device's size, which is a multiple of the host's; `reason` begins the device_reason.
/// Throws ERR_INTERNAL where the pages do not fit together.
std::unique_ptr<Backend> create_split_backend(std::unique_ptr<Backend> host, std::unique_ptr<Backend> device,
                                              std::int32_t n_layers, std::int32_t gpu_layers,
                                              const std::string& reason);

}  // namespace cria
