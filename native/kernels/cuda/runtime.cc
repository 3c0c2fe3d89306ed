// runtime.h over the CUDA runtime, linked statically. It loads the driver (libcuda) at the first call, so a
// program with it starts on any machine.
#include "kernels/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <vector>

#include "core/error.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/runtime_error.h"

namespace cria::cuda {
namespace {

// The CUDA handles behind those of runtime.h.
cudaStream_t real(Stream s) { return reinterpret_cast<cudaStream_t>(s); }
cudaEvent_t real(Event e) { return reinterpret_cast<cudaEvent_t>(e); }
cudaGraph_t real(Graph g) { return reinterpret_cast<cudaGraph_t>(g); }
cudaGraphExec_t real(GraphExec g) { return reinterpret_cast<cudaGraphExec_t>(g); }

Failure failure_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation: return Failure::out_of_memory;
    case cudaErrorInsufficientDriver: {
      int version = 0;
      cudaDriverGetVersion(&version);
      return version == 0 ? Failure::no_driver : Failure::driver_too_old;
    }
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice: return Failure::no_device;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidKernelImage: return Failure::no_kernel_image;
    case cudaErrorInitializationError:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorStubLibrary: return Failure::driver_broken;
    case cudaErrorLaunchOutOfResources:
    case cudaErrorInvalidConfiguration:
    case cudaErrorCooperativeLaunchTooLarge: return Failure::too_large;
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorMisalignedAddress:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
    case cudaErrorCudartUnloading:
    case cudaErrorUnknown: return Failure::device_lost;
    default: return Failure::invalid_call;
  }
}

FailedCall describe(cudaError_t status, std::string call) {
  return {failure_of(status), std::move(call),
          std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")", status};
}

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears the error, which the next launch would report again
  throw_failed_call(describe(status, call));
}

void check_kernel(cudaError_t status, const char* name) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw_failed_call(describe(status, std::string("kernel ") + name));
}

}  // namespace

const char* device_kind() noexcept { return "cuda"; }

DriverInfo probe_driver() noexcept {
  DriverInfo info;
  cudaDriverGetVersion(&info.driver_version);
  cudaRuntimeGetVersion(&info.runtime_version);
  const cudaError_t status = cudaGetDeviceCount(&info.device_count);
  cudaGetLastError();
  if (status == cudaSuccess)
    info.state = info.device_count > 0 ? DriverState::ready : DriverState::no_device;
  else if (status == cudaErrorNoDevice)
    info.state = DriverState::no_device;
  else if (info.driver_version == 0)
    info.state = DriverState::missing;
  else
    info.state = status == cudaErrorInsufficientDriver ? DriverState::too_old : DriverState::broken;
  if (info.state != DriverState::ready) info.device_count = 0;
  try {
    info.message =
        driver_message(info.state, info.driver_version, info.runtime_version, cudaGetErrorString(status));
  } catch (...) {  // no memory for a sentence
  }
  return info;
}

DeviceProperties device_properties(int device) {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
  DeviceProperties out;
  out.name = p.name;
  out.major = p.major;
  out.minor = p.minor;
  out.multiprocessors = p.multiProcessorCount;
  out.max_threads_per_multiprocessor = p.maxThreadsPerMultiProcessor;
  out.total_memory = p.totalGlobalMem;
  out.shared_per_block = p.sharedMemPerBlockOptin;
  out.shared_per_multiprocessor = p.sharedMemPerMultiprocessor;
  out.l2_bytes = static_cast<std::size_t>(p.l2CacheSize);
  out.cooperative_launch = p.cooperativeLaunch != 0;
  return out;
}

void set_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

MemoryInfo memory_info() {
  MemoryInfo info;
  check(cudaMemGetInfo(&info.free, &info.total), "cudaMemGetInfo");
  return info;
}

void* allocate(std::size_t bytes, const char* what) {
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    cudaGetLastError();
    throw_out_of_memory(what, bytes, free, "device");
  }
  check(status, "cudaMalloc");
  return p;
}

void release(void* device_memory) noexcept { cudaFree(device_memory); }

void* allocate_pinned(std::size_t bytes, const char* what) {
  void* p = nullptr;
  const cudaError_t status = cudaMallocHost(&p, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw_out_of_memory(what, bytes, 0, "page-locked host");
  }
  check(status, "cudaMallocHost");
  return p;
}

void release_pinned(void* host_memory) noexcept { cudaFreeHost(host_memory); }

void copy_to_device(void* device, const void* host, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, real(stream)), "cudaMemcpyAsync");
}
void copy_to_host(void* host, const void* device, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, real(stream)), "cudaMemcpyAsync");
}
void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, real(stream)), "cudaMemcpyAsync");
}
void fill_bytes(void* device, std::uint8_t value, std::size_t bytes, Stream stream) {
  check(cudaMemsetAsync(device, value, bytes, real(stream)), "cudaMemsetAsync");
}

Stream create_stream() {
  cudaStream_t s = nullptr;
  check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreate");
  return reinterpret_cast<Stream>(s);
}
void destroy(Stream stream) noexcept { cudaStreamDestroy(real(stream)); }
void synchronize(Stream stream) { check(cudaStreamSynchronize(real(stream)), "cudaStreamSynchronize"); }

Event create_event() {
  cudaEvent_t e = nullptr;
  check(cudaEventCreate(&e), "cudaEventCreate");
  return reinterpret_cast<Event>(e);
}
void destroy(Event event) noexcept { cudaEventDestroy(real(event)); }
void record(Event event, Stream stream) {
  check(cudaEventRecord(real(event), real(stream)), "cudaEventRecord");
}
void wait(Stream stream, Event event) {
  check(cudaStreamWaitEvent(real(stream), real(event), 0), "cudaStreamWaitEvent");
}
void synchronize(Event event) { check(cudaEventSynchronize(real(event)), "cudaEventSynchronize"); }
float elapsed_milliseconds(Event begin, Event end) {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, real(begin), real(end)), "cudaEventElapsedTime");
  return ms;
}

void begin_capture(Stream stream) {
  check(cudaStreamBeginCapture(real(stream), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}
Graph end_capture(Stream stream) {
  cudaGraph_t g = nullptr;
  check(cudaStreamEndCapture(real(stream), &g), "cudaStreamEndCapture");
  return reinterpret_cast<Graph>(g);
}
void destroy(Graph graph) noexcept { cudaGraphDestroy(real(graph)); }
GraphExec instantiate(Graph graph) {
  cudaGraphExec_t e = nullptr;
  check(cudaGraphInstantiate(&e, real(graph), 0), "cudaGraphInstantiate");
  return reinterpret_cast<GraphExec>(e);
}
bool update(GraphExec exec, Graph graph) {
  cudaGraphExecUpdateResultInfo info;
  const cudaError_t status = cudaGraphExecUpdate(real(exec), real(graph), &info);
  if (status == cudaErrorGraphExecUpdateFailure) {
    cudaGetLastError();
    return false;
  }
  check(status, "cudaGraphExecUpdate");
  return true;
}
void launch(GraphExec exec, Stream stream) {
  check(cudaGraphLaunch(real(exec), real(stream)), "cudaGraphLaunch");
}
void destroy(GraphExec exec) noexcept { cudaGraphExecDestroy(real(exec)); }

KernelAttributes kernel_attributes(const void* kernel, const char* name) {
  cudaFuncAttributes a;
  check_kernel(cudaFuncGetAttributes(&a, kernel), name);
  KernelAttributes out;
  out.registers = a.numRegs;
  out.max_threads_per_block = a.maxThreadsPerBlock;
  out.static_shared = a.sharedSizeBytes;
  out.max_dynamic_shared = static_cast<std::size_t>(a.maxDynamicSharedSizeBytes);
  out.local = a.localSizeBytes;
  return out;
}

void set_max_dynamic_shared(const void* kernel, const char* name, std::size_t bytes) {
  check_kernel(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      name);
}

int max_blocks_per_multiprocessor(const void* kernel, const char* name, int threads,
                                  std::size_t shared_bytes) {
  int blocks = 0;
  check_kernel(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes), name);
  return blocks;
}

void detail::launch_kernel(const LaunchConfig& config, const KernelCall& call, void* arguments) {
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(config.grid.x, config.grid.y, config.grid.z);
  c.blockDim = dim3(config.block.x, config.block.y, config.block.z);
  c.dynamicSmemBytes = config.dynamic_shared;
  c.stream = real(config.stream);
  c.attrs = attributes;
  if (config.cooperative) {
    attributes[c.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[c.numAttrs++].val.cooperative = 1;
  }
  if (config.overlaps_previous) {
    attributes[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[c.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  std::vector<void*> pointers(call.count + 1);
  call.pointers(arguments, pointers.data());
  check_kernel(cudaLaunchKernelExC(&c, call.kernel, pointers.data()), config.name);
}

}  // namespace cria::cuda
