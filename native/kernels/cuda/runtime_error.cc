#include "kernels/cuda/runtime_error.h"

#include <string_view>

#include "core/error.h"

namespace cria::cuda {
namespace {

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

std::string driver_message(DriverState state, int driver_version, int runtime_version,
                           const std::string& reason) {
  switch (state) {
    case DriverState::ready: return "a CUDA device is ready";
    case DriverState::missing: return "no NVIDIA driver is installed";
    case DriverState::too_old:
      return "the NVIDIA driver is too old: it supports CUDA " + version(driver_version) +
             ", this build needs CUDA " + version(runtime_version) + " (driver 580 or newer)";
    case DriverState::no_device: return "the NVIDIA driver shows no device to this process";
    case DriverState::broken: break;
  }
  return "the NVIDIA driver does not work: " + reason;
}

void throw_failed_call(const FailedCall& failed) {
  const std::string text = failed.call + " failed: " + failed.reason;
  std::vector<ErrorDetail> details = {{"call", failed.call}, {"cudaError", failed.status}};
  switch (failed.failure) {
    case Failure::out_of_memory: throw Error(ErrorCode::out_of_memory, text, std::move(details));
    case Failure::no_driver:
    case Failure::driver_too_old:
    case Failure::no_device:
    case Failure::driver_broken: throw Error(ErrorCode::unsupported_device, text, std::move(details));
    case Failure::no_kernel_image:
      throw Error(ErrorCode::unsupported_device, text + "; this build has no kernels for this device",
                  std::move(details));
    case Failure::invalid_call:
    case Failure::too_large: break;
    case Failure::device_lost:
      details.emplace_back("restart", "process");
      throw Error(ErrorCode::device_lost,
                  text + "; the device was lost: a restart of the process is needed to use it again",
                  std::move(details));
  }
  throw Error(ErrorCode::internal, text, std::move(details));
}

void throw_out_of_memory(const char* what, std::size_t requested, std::size_t available, const char* kind) {
  throw Error(ErrorCode::out_of_memory,
              std::string(what) + " needs " + std::to_string(requested) + " bytes of " + kind + " memory, " +
                  std::to_string(available) +
                  " are free; use a smaller model, a narrower quantization, a shorter context" +
                  (std::string_view(kind) == "device" ? " or fewer gpuLayers" : ""),
              {{"requestedBytes", requested}, {"availableBytes", available}});
}

}  // namespace cria::cuda
