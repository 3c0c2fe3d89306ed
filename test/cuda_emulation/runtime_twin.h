// Controls of the twin of runtime.cc, for tests.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/runtime_error.h"

namespace cria::cuda::emulation {

/// Calls of runtime.h (and launches) so far. fail_call() counts the same.
std::uint64_t runtime_calls();
/// The n-th call from now on (1 is the next) fails in this way, once. A lost device stays lost until
/// restore_device().
void fail_call(std::uint64_t n, Failure failure);
/// Cancels an injected failure. False when it has already happened.
bool cancel_failure();
void restore_device();

/// Sets the driver that probe_driver() and every call find.
void set_driver(DriverState state, int driver_version);

/// Sets device_kind(); "cuda-emulated" at first. With "cuda", 'auto' takes the emulated device.
void set_device_kind(const char* kind);

/// The device that the backend sees; by default a small H200.
void set_device_properties(const DeviceProperties& properties);

/// Tasks that streams have not run yet.
std::size_t queued_work();

}  // namespace cria::cuda::emulation
