// The twin of runtime.cc: what tests may ask of it and do to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/runtime_error.h"

namespace cria::cuda::emulation {

/// The calls of runtime.h (and launches) made so far, in the order of which failures are injected.
std::uint64_t runtime_calls();
/// The n-th call from now on (1 is the next) fails this way, once. A lost device stays lost until
/// restore_device().
void fail_call(std::uint64_t n, Failure failure);
/// Takes back a failure that has not come to pass. False when it has.
bool cancel_failure();
void restore_device();

/// What probe_driver and every call are to find.
void set_driver(DriverState state, int driver_version);

/// What device_kind() says; "cuda-emulated" at first. With "cuda", 'auto' takes the emulated device.
void set_device_kind(const char* kind);

/// The device that the backend sees: an H200 in small unless a test wants another.
void set_device_properties(const DeviceProperties& properties);

/// Work given to streams and not run yet.
std::size_t queued_work();

}  // namespace cria::cuda::emulation
