// Turns a failed runtime call into a cria::Error, for the real runtime and its twin alike.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

enum class Failure {
  out_of_memory,  // ERR_OUT_OF_MEMORY
  no_driver,      // ERR_UNSUPPORTED_DEVICE, like the next four
  driver_too_old,
  no_device,
  driver_broken,
  no_kernel_image,  // the build has no code for this device
  /// ERR_INTERNAL: the backend made a wrong call; the device stays usable.
  invalid_call,
  /// ERR_INTERNAL: a kernel needs more registers, threads or shared memory than the device has.
  too_large,
  /// ERR_DEVICE_LOST with detail restart = "process": a kernel failed and destroyed the process's context.
  device_lost,
};

struct FailedCall {
  Failure failure;
  std::string call;    // "cudaMalloc", or "kernel rms_norm"
  std::string reason;  // the runtime's message
  int status = 0;      // the runtime's error number
};

[[noreturn]] void throw_failed_call(const FailedCall& failed);
[[noreturn]] void throw_out_of_memory(const char* what, std::size_t requested, std::size_t available,
                                      const char* kind);
/// One sentence for users: what is wrong with the driver and what helps.
std::string driver_message(DriverState state, int driver_version, int runtime_version,
                           const std::string& reason);

}  // namespace cria::cuda
