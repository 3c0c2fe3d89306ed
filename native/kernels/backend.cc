#include "kernels/backend.h"

#include "core/error.h"
#include "kernels/cpu/cpu_backend.h"

namespace cria {

ElementaryOps& Backend::elementary() {
  throw Error(ErrorCode::unsupported_device, "device '" + info().device + "' has no elementary kernels yet",
              {{"device", info().device}});
}

std::unique_ptr<Backend> create_backend(const BackendOptions& options) {
  const bool automatic = options.device == "auto";
  if (automatic || options.device == "cpu") {
    return create_cpu_backend(options,
                              automatic ? "auto: this build has the CPU backend alone" : "asked for by name");
  }
  if (options.device == "cuda" || options.device.starts_with("cuda:")) {
    throw Error(ErrorCode::unsupported_device,
                "device '" + options.device +
                    "' is not available: this build has no CUDA backend; use 'cpu' or 'auto'",
                {{"device", options.device}});
  }
  throw Error(ErrorCode::invalid_argument,
              "device must be 'auto', 'cpu', 'cuda' or 'cuda:N', found '" + options.device + "'",
              {{"device", options.device}});
}

}  // namespace cria
