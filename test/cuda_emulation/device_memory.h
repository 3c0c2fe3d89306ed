// The emulated device's memory: NaN when it is fresh, with redzones around every allocation.
#pragma once

#include <cstddef>

namespace cria::cuda::emulation {

/// Null when more than the emulated device has is asked for.
void* take_device_memory(std::size_t bytes);
/// False when the pointer is not one of take_device_memory's.
bool give_back_device_memory(void* p);
/// The allocation that holds all of [p, p + bytes); false when none does.
bool in_device_memory(const void* p, std::size_t bytes);
/// Whether the address could be device memory at all.
bool in_device_arena(const void* p);
std::size_t free_device_memory();
std::size_t total_device_memory();
/// Of the emulated device; what is allocated stays.
void set_total_device_memory(std::size_t bytes);
/// Allocations that were not given back.
std::size_t device_allocations();

}  // namespace cria::cuda::emulation
