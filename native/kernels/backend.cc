#include "kernels/backend.h"

#include "core/error.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace cria {

std::unique_ptr<Backend> create_backend(const BackendOptions& options) {
  const std::string& device = options.device;
  if (device == "cpu") return create_cpu_backend(options, "asked for by name");
  if (device == "auto") {
    std::string why_not = options.not_cuda;
    if (why_not.empty()) {
      if (auto backend = create_cuda_backend_if_usable(options, why_not)) return backend;
    }
    return create_cpu_backend(options, "auto: " + why_not);
  }
  if (is_cuda_device(device)) return create_cuda_backend(options);
  if (device == "cuda" || device.starts_with("cuda:")) {
    throw Error(
        ErrorCode::unsupported_device,
        "device '" + device + "' is not available: this build has no CUDA backend; use 'cpu' or 'auto'",
        {{"device", device}});
  }
  throw Error(ErrorCode::invalid_argument,
              "device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>', found '" + device + "'",
              {{"device", device}});
}

}  // namespace cria
