// The part of the CUDA runtime that the backend uses. Needs no CUDA header. runtime.cc implements it over the
// static CUDA runtime; a twin in test/cuda_emulation runs the same backend on the CPU. Every failure is a
// cria::Error (runtime_error.h says which); noexcept functions are for destructors and ignore failures.
//
// Streams are asynchronous: an error may be thrown by a later call. A copy between the device and pinned
// memory accesses the host side any time up to the next synchronize(); pageable memory may be reused at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cria::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

using Stream = struct OpaqueStream*;  // nullptr is the default stream, which cannot be captured
using Event = struct OpaqueEvent*;
using Graph = struct OpaqueGraph*;
using GraphExec = struct OpaqueGraphExec*;

/// The kind of device: "cuda"; the twin has another name.
const char* device_kind() noexcept;

// ---- the driver and its devices ----

enum class DriverState {
  ready,      // at least one device
  missing,    // no driver is installed
  too_old,    // the driver is older than this build needs
  no_device,  // the driver shows no device to this process
  broken,     // anything else; the message quotes the driver
};

struct DriverInfo {
  DriverState state = DriverState::broken;
  int driver_version = 0;   // 13000 is 13.0; 0 when unknown
  int runtime_version = 0;  // what this build was linked with
  int device_count = 0;
  std::string message;  // one sentence for users
};

/// Has no side effects: for `device: 'auto'`.
DriverInfo probe_driver() noexcept;

struct DeviceProperties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int max_threads_per_multiprocessor = 0;
  std::size_t total_memory = 0;
  std::size_t shared_per_block = 0;  // the limit with set_max_dynamic_shared
  std::size_t shared_per_multiprocessor = 0;
  std::size_t l2_bytes = 0;
  bool cooperative_launch = false;
};

DeviceProperties device_properties(int device);
/// Selects the device of the calling thread, for all functions below.
void set_device(int device);

// ---- memory ----

struct MemoryInfo {
  std::size_t free = 0, total = 0;
};
MemoryInfo memory_info();

/// Device memory, aligned to 256 bytes, uninitialised. Throws ERR_OUT_OF_MEMORY with requestedBytes and
/// availableBytes; `what` names the purpose in its message.
void* allocate(std::size_t bytes, const char* what);
void release(void* device_memory) noexcept;
/// Page-locked host memory.
void* allocate_pinned(std::size_t bytes, const char* what);
void release_pinned(void* host_memory) noexcept;

void copy_to_device(void* device, const void* host, std::size_t bytes, Stream stream);
void copy_to_host(void* host, const void* device, std::size_t bytes, Stream stream);
void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream);
void fill_bytes(void* device, std::uint8_t value, std::size_t bytes, Stream stream);

// ---- streams and events ----

Stream create_stream();
void destroy(Stream stream) noexcept;
void synchronize(Stream stream);

Event create_event();
void destroy(Event event) noexcept;
void record(Event event, Stream stream);
/// Later work of `stream` waits for the event.
void wait(Stream stream, Event event);
void synchronize(Event event);
float elapsed_milliseconds(Event begin, Event end);

// ---- graphs ----

/// Until end_capture(), the stream's work is recorded instead of run.
void begin_capture(Stream stream);
Graph end_capture(Stream stream);
void destroy(Graph graph) noexcept;
GraphExec instantiate(Graph graph);
/// Replaces the arguments of a graph with the same nodes. False when the nodes differ: instantiate again.
bool update(GraphExec exec, Graph graph);
void launch(GraphExec exec, Stream stream);
void destroy(GraphExec exec) noexcept;

// ---- kernels (launch.h has the launch itself) ----

struct KernelAttributes {
  int registers = 0;  // per thread
  int max_threads_per_block = 0;
  std::size_t static_shared = 0, max_dynamic_shared = 0, local = 0;  // bytes; local per thread: spills
};
KernelAttributes kernel_attributes(const void* kernel, const char* name);
/// Raises a kernel's limit of dynamic shared memory above the default of 48 KiB, once per kernel and device.
void set_max_dynamic_shared(const void* kernel, const char* name, std::size_t bytes);
int max_blocks_per_multiprocessor(const void* kernel, const char* name, int threads,
                                  std::size_t shared_bytes);

}  // namespace cria::cuda
