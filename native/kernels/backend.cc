#include "kernels/backend.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "core/units.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/split_backend.h"

namespace cria {
namespace {

// 'auto' does not use a device that would run less than a quarter of the layers.
constexpr std::int32_t kMinShare = 4;

std::string does_not_fit(const DeviceFit& fit) {
  return "the model needs about " + mib(fit.needed) + " on the CUDA device, which has " + mib(fit.available) +
         " free";
}

void check_gpu_layers(const BackendOptions& options) {
  if (options.gpu_layers < 0) return;
  if (options.gpu_layers > options.n_layers)
    throw Error(ErrorCode::invalid_argument,
                "gpuLayers: expected at most " + std::to_string(options.n_layers) +
                    ", the layers of the model, found " + std::to_string(options.gpu_layers),
                {{"expected", options.n_layers}, {"found", options.gpu_layers}});
  if (options.device == "cpu" && options.gpu_layers > 0)
    throw Error(ErrorCode::invalid_argument,
                "gpuLayers: expected 0 with device 'cpu', found " + std::to_string(options.gpu_layers),
                {{"expected", 0}, {"found", options.gpu_layers}});
}

/// Places the requested layers, or as many as fit, on the device. For "auto", null if those are too few;
/// `why_not` then says so.
std::unique_ptr<Backend> place(std::unique_ptr<Backend> device, const BackendOptions& options,
                               std::string& why_not) {
  const std::int32_t all = options.n_layers;
  std::int32_t layers = options.gpu_layers;
  std::string reason = "as gpuLayers says";
  if (layers < 0) {
    const DeviceFit fit = fit_of(*device, options);
    layers = fit.layers;
    reason = "since " + does_not_fit(fit);
    if (options.device == "auto" && layers < all && layers < (all + kMinShare - 1) / kMinShare) {
      why_not = does_not_fit(fit);
      return nullptr;
    }
    if (all > 0 && layers == 0)
      throw Error(ErrorCode::out_of_memory,
                  does_not_fit(fit) +
                      ", too little for one of its layers; use a smaller model, a narrower quantization or "
                      "device: 'cpu'",
                  {{"requestedBytes", fit.needed}, {"availableBytes", fit.available}});
  }
  if (layers == all) return device;
  if (layers == 0) return create_cpu_backend(options, "gpuLayers: 0");
  return create_split_backend(
      create_cpu_backend(options, ""), std::move(device), all, layers,
      std::to_string(layers) + " of " + std::to_string(all) + " layers on the device, " + reason);
}

/// Null if there is no device or too little room on it; `why_not` then says so.
std::unique_ptr<Backend> create_cuda_for_auto(const BackendOptions& options, std::string& why_not) {
  if (options.adopts_weights) {
    why_not = "mmap is for the CPU";
    return nullptr;
  }
  try {
    auto device = create_cuda_backend_if_usable(options, why_not);
    return device ? place(std::move(device), options, why_not) : nullptr;
  } catch (const Error& e) {
    why_not = e.what();
    return nullptr;
  }
}

}  // namespace

std::unique_ptr<Backend> create_backend(const BackendOptions& options) {
  const std::string& device = options.device;
  check_gpu_layers(options);
  if (device == "cpu") return create_cpu_backend(options, "asked for by name");
  if (device == "auto") {
    std::string why_not = options.not_cuda;
    if (why_not.empty())
      if (auto backend = create_cuda_for_auto(options, why_not)) return backend;
    return create_cpu_backend(options, "auto: " + why_not);
  }
  if (is_cuda_device(device)) {
    std::string why_not;
    return place(create_cuda_backend(options), options, why_not);
  }
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
