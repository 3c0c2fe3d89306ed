// The emulated device's memory: fresh memory is NaN, and every allocation has redzones.
#pragma once

#include <cstddef>

namespace cria::cuda::emulation {

/// Null when the emulated device has too little memory left.
void* allocate_device_memory(std::size_t bytes);
/// False when the pointer did not come from allocate_device_memory().
bool free_device_memory(void* p);
/// Whether one allocation holds all of [p, p + bytes).
bool in_device_memory(const void* p, std::size_t bytes);
/// Whether the address could be device memory at all.
bool in_device_arena(const void* p);
std::size_t available_device_memory();
std::size_t total_device_memory();
/// Changes the size of the device; allocations stay.
void set_total_device_memory(std::size_t bytes);
/// Allocations that have not been freed.
std::size_t device_allocations();

}  // namespace cria::cuda::emulation
