// How a failed runtime call becomes a cria::Error. Shared by the real runtime and
// its twin, so that both fail alike.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

enum class Failure {
  out_of_memory,  // ERR_OUT_OF_MEMORY
  no_driver,      // ERR_UNSUPPORTED_DEVICE, as the next three: the device is not to be had
  driver_too_old,
  no_device,
  driver_broken,
  no_kernel_image,  // the build has no code for this device
  invalid_call,     // ERR_INTERNAL: the backend asked for what cannot be; the device goes on
  too_large,        // a kernel wants more registers, threads or shared memory than there are: as invalid_call
  device_lost,  // ERR_DEVICE_LOST with detail restart = "process": a kernel died, and the process's context
                // with it
};

struct FailedCall {
  Failure failure;
  std::string call;    // "cudaMalloc", or "kernel rms_norm"
  std::string reason;  // the runtime's own words
  int status = 0;      // the runtime's number
};

[[noreturn]] void throw_failed_call(const FailedCall& failed);
[[noreturn]] void throw_out_of_memory(const char* what, std::size_t requested, std::size_t available,
                                      const char* kind);
/// A sentence for people: what is wrong with the driver and what helps.
std::string driver_message(DriverState state, int driver_version, int runtime_version,
                           const std::string& reason);

}  // namespace cria::cuda
