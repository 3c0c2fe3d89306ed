// runtime.h on the CPU. A stream runs its work no earlier than a synchronization demands, as CUDA may, so
// that a missing wait shows.
#include "cuda_emulation/runtime_twin.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "core/error.h"
#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/emulator.h"
#include "kernels/cuda/launch.h"

namespace cria::cuda {

using namespace emulation;

namespace {

struct Work {
  const char* kind;
  const void* kernel;
  std::function<void()> run;
};
constexpr int kVersion = 13000;
constexpr std::size_t kDefaultDynamicShared = 48 << 10;

}  // namespace

struct OpaqueGraph {
  std::vector<Work> work;
};
struct OpaqueGraphExec {
  std::vector<Work> work;
};
struct OpaqueStream {
  std::deque<Work> queue;
  std::uint64_t given = 0, done = 0;
  std::unique_ptr<OpaqueGraph> capture;
  std::thread::id capturing_thread;
};
struct OpaqueEvent {
  OpaqueStream* stream = nullptr;
  std::uint64_t ticket = 0;  // recorded after so many of the stream's tasks
  std::shared_ptr<std::chrono::steady_clock::time_point> time =
      std::make_shared<std::chrono::steady_clock::time_point>();
};

namespace {

struct Injected {
  std::uint64_t at = 0;  // 0: none
  Failure failure = Failure::invalid_call;
};

struct Twin {
  std::recursive_mutex mutex;
  std::uint64_t calls = 0;
  Injected injected;
  bool lost = false;
  const char* kind = "cuda-emulated";
  DriverState state = DriverState::ready;
  int driver_version = kVersion;
  DeviceProperties properties{.name = "emulated device",
                              .major = 9,
                              .minor = 0,
                              .multiprocessors = 4,
                              .max_threads_per_multiprocessor = 2048,
                              .total_memory = 0,
                              .shared_per_block = 227 << 10,
                              .shared_per_multiprocessor = 228 << 10,
                              .l2_bytes = 1 << 20,
                              .cooperative_launch = true};
  std::map<const unsigned char*, std::size_t> pinned;
  std::map<const void*, std::size_t> dynamic_shared;  // what set_max_dynamic_shared allowed
  OpaqueStream default_stream;
  std::set<OpaqueStream*> streams;
  std::size_t queued = 0;
};
Twin& twin() {
  static auto* const twin = new Twin;
  return *twin;
}

OpaqueStream& stream_of(Stream stream) { return stream ? *stream : twin().default_stream; }

/// Whether this thread captures a stream. Allocations are then refused to it, and only to it: captures are
/// begun in the mode cudaStreamCaptureModeThreadLocal.
bool this_thread_captures() {
  return std::ranges::any_of(twin().streams, [](const OpaqueStream* s) {
    return s->capture && s->capturing_thread == std::this_thread::get_id();
  });
}

void forget_work(OpaqueStream& s) {
  s.queue.clear();
  s.done = s.given;
}

const char* reason_of(Failure failure) {
  switch (failure) {
    case Failure::out_of_memory: return "out of memory";
    case Failure::no_driver: return "no driver";
    case Failure::driver_too_old: return "the driver is too old";
    case Failure::no_device: return "no device";
    case Failure::driver_broken: return "the driver does not answer";
    case Failure::no_kernel_image: return "no kernel image for the device";
    case Failure::invalid_call: return "an invalid argument";
    case Failure::too_large: return "too many resources requested for launch";
    case Failure::device_lost: return "an illegal memory access was encountered";
  }
  return "unknown";
}

[[noreturn]] void fail(Failure failure, const std::string& call, const std::string& reason = "") {
  throw_failed_call(
      {failure, call, reason.empty() ? reason_of(failure) : reason, static_cast<int>(failure) + 1});
}

/// Also drops all pending work.
void lose_device() {
  Twin& t = twin();
  t.lost = true;
  t.queued = 0;
  for (OpaqueStream* s : t.streams) forget_work(*s);
  forget_work(t.default_stream);
}

/// Every call begins here. Returns an injected out-of-memory, whose message is the caller's.
bool enter(const std::string& call) {
  Twin& t = twin();
  t.calls++;
  switch (t.state) {
    case DriverState::ready: break;
    case DriverState::missing: fail(Failure::no_driver, call);
    case DriverState::too_old: fail(Failure::driver_too_old, call);
    case DriverState::no_device: fail(Failure::no_device, call);
    case DriverState::broken: fail(Failure::driver_broken, call);
  }
  if (t.lost) fail(Failure::device_lost, call);
  if (t.injected.at == 0 || t.calls != t.injected.at) return false;
  t.injected.at = 0;
  if (t.injected.failure == Failure::device_lost) lose_device();
  if (t.injected.failure == Failure::out_of_memory) return true;
  fail(t.injected.failure, call);
}
void enter_plain(const std::string& call) {
  if (enter(call)) fail(Failure::out_of_memory, call);
}

/// Runs the stream's work up to a ticket.
void drain(OpaqueStream& s, std::uint64_t ticket) {
  while (s.done < ticket && !s.queue.empty()) {
    const Work work = std::move(s.queue.front());
    s.queue.pop_front();
    s.done++;
    twin().queued--;
    try {
      work.run();
    } catch (...) {
      twin().queued -= s.queue.size();
      s.done = s.given;
      s.queue.clear();
      throw;
    }
  }
}
void drain(OpaqueStream& s) { drain(s, s.given); }

void give(OpaqueStream& s, Work work) {
  if (s.capture) {
    s.capture->work.push_back(std::move(work));
    return;
  }
  s.queue.push_back(std::move(work));
  s.given++;
  twin().queued++;
}

bool is_pinned(const void* p, std::size_t bytes) {
  const auto* byte = static_cast<const unsigned char*>(p);
  auto after = twin().pinned.upper_bound(byte);
  if (after == twin().pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  const auto offset = static_cast<std::size_t>(byte - begin);
  return offset <= size && bytes <= size - offset;
}

void check_device(const void* p, std::size_t bytes, const char* call) {
  if (bytes && !in_device_memory(p, bytes))
    fail(Failure::invalid_call, call, std::to_string(bytes) + " bytes that no device allocation holds");
}

using Lock = std::lock_guard<std::recursive_mutex>;

}  // namespace

// ---- controls for tests ----

std::uint64_t emulation::runtime_calls() { return twin().calls; }
void emulation::fail_call(std::uint64_t n, Failure failure) { twin().injected = {twin().calls + n, failure}; }
bool emulation::cancel_failure() {
  const bool pending = twin().injected.at > twin().calls;
  twin().injected.at = 0;
  return pending;
}
void emulation::restore_device() { twin().lost = false; }
void emulation::set_driver(DriverState state, int driver_version) {
  twin().state = state;
  twin().driver_version = driver_version;
}
void emulation::set_device_kind(const char* kind) { twin().kind = kind; }
void emulation::set_device_properties(const DeviceProperties& properties) { twin().properties = properties; }
std::size_t emulation::queued_work() { return twin().queued; }

// ---- runtime.h ----

const char* device_kind() noexcept { return twin().kind; }

DriverInfo probe_driver() noexcept {
  DriverInfo info;
  info.state = twin().state;
  info.driver_version = twin().driver_version;
  info.runtime_version = kVersion;
  info.device_count = info.state == DriverState::ready ? 1 : 0;
  try {
    info.message =
        driver_message(info.state, info.driver_version, info.runtime_version, "it does not answer");
  } catch (...) {
  }
  return info;
}

DeviceProperties device_properties(int device) {
  Lock lock(twin().mutex);
  enter_plain("cudaGetDeviceProperties");
  if (device != 0) fail(Failure::no_device, "cudaGetDeviceProperties");
  DeviceProperties p = twin().properties;
  p.total_memory = total_device_memory();
  return p;
}

void set_device(int device) {
  Lock lock(twin().mutex);
  enter_plain("cudaSetDevice");
  if (device != 0) fail(Failure::no_device, "cudaSetDevice");
}

MemoryInfo memory_info() {
  Lock lock(twin().mutex);
  enter_plain("cudaMemGetInfo");
  return {available_device_memory(), total_device_memory()};
}

void* allocate(std::size_t bytes, const char* what) {
  Lock lock(twin().mutex);
  const bool injected = enter("cudaMalloc");
  if (this_thread_captures()) fail(Failure::invalid_call, "cudaMalloc", "a stream is being captured");
  if (bytes == 0) return nullptr;
  void* p = injected ? nullptr : allocate_device_memory(bytes);
  if (!p) throw_out_of_memory(what, bytes, available_device_memory(), "device");
  return p;
}

void release(void* device_memory) noexcept {
  Lock lock(twin().mutex);
  if (!device_memory) return;
  try {  // cudaFree waits for the device
    for (OpaqueStream* s : twin().streams) drain(*s);
    drain(twin().default_stream);
  } catch (...) {
  }
  free_device_memory(device_memory);
}

void* allocate_pinned(std::size_t bytes, const char* what) {
  Lock lock(twin().mutex);
  const bool injected = enter("cudaMallocHost");
  if (this_thread_captures()) fail(Failure::invalid_call, "cudaMallocHost", "a stream is being captured");
  void* p = injected ? nullptr : std::malloc(bytes);
  if (!p) throw_out_of_memory(what, bytes, 0, "page-locked host");
  std::memset(p, kNanByte, bytes);
  twin().pinned[static_cast<unsigned char*>(p)] = bytes;
  return p;
}

void release_pinned(void* host_memory) noexcept {
  Lock lock(twin().mutex);
  if (twin().pinned.erase(static_cast<unsigned char*>(host_memory))) std::free(host_memory);
}

void copy_to_device(void* device, const void* host, std::size_t bytes, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaMemcpyAsync");
  check_device(device, bytes, "cudaMemcpyAsync");
  OpaqueStream& s = stream_of(stream);
  if (is_pinned(host, bytes)) {  // read when the stream gets there
    give(s, {"copy", nullptr, [=] { std::memcpy(device, host, bytes); }});
    return;
  }
  if (s.capture)
    fail(Failure::invalid_call, "cudaMemcpyAsync", "a captured copy from memory that is not pinned");
  const auto* from = static_cast<const unsigned char*>(host);
  give(s, {"copy", nullptr, [device, staged = std::vector<unsigned char>(from, from + bytes)] {
             if (!staged.empty()) std::memcpy(device, staged.data(), staged.size());
           }});
}

void copy_to_host(void* host, const void* device, std::size_t bytes, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaMemcpyAsync");
  check_device(device, bytes, "cudaMemcpyAsync");
  OpaqueStream& s = stream_of(stream);
  const bool pinned = is_pinned(host, bytes);
  if (s.capture && !pinned)
    fail(Failure::invalid_call, "cudaMemcpyAsync", "a captured copy to memory that is not pinned");
  give(s, {"copy", nullptr, [=] { std::memcpy(host, device, bytes); }});
  if (!pinned) drain(s);
}

void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaMemcpyAsync");
  check_device(to, bytes, "cudaMemcpyAsync");
  check_device(from, bytes, "cudaMemcpyAsync");
  give(stream_of(stream), {"copy", nullptr, [=] { std::memcpy(to, from, bytes); }});
}

void fill_bytes(void* device, std::uint8_t value, std::size_t bytes, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaMemsetAsync");
  check_device(device, bytes, "cudaMemsetAsync");
  give(stream_of(stream), {"fill", nullptr, [=] { std::memset(device, value, bytes); }});
}

Stream create_stream() {
  Lock lock(twin().mutex);
  enter_plain("cudaStreamCreate");
  return *twin().streams.insert(new OpaqueStream).first;
}
void destroy(Stream stream) noexcept {
  Lock lock(twin().mutex);
  if (!stream) return;
  try {
    drain(*stream);
  } catch (...) {
  }
  twin().streams.erase(stream);
  delete stream;
}
void synchronize(Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaStreamSynchronize");
  OpaqueStream& s = stream_of(stream);
  if (s.capture) fail(Failure::invalid_call, "cudaStreamSynchronize", "the stream is being captured");
  drain(s);
}

Event create_event() {
  Lock lock(twin().mutex);
  enter_plain("cudaEventCreate");
  return new OpaqueEvent;
}
void destroy(Event event) noexcept { delete event; }
void record(Event event, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaEventRecord");
  OpaqueStream& s = stream_of(stream);
  give(s, {"event", nullptr, [time = event->time] { *time = std::chrono::steady_clock::now(); }});
  if (s.capture) return;
  event->stream = &s;
  event->ticket = s.given;
}
void wait(Stream stream, Event event) {
  Lock lock(twin().mutex);
  enter_plain("cudaStreamWaitEvent");
  if (!event->stream) return;
  give(stream_of(stream),
       {"wait", nullptr, [from = event->stream, ticket = event->ticket] { drain(*from, ticket); }});
}
void synchronize(Event event) {
  Lock lock(twin().mutex);
  enter_plain("cudaEventSynchronize");
  if (event->stream) drain(*event->stream, event->ticket);
}
float elapsed_milliseconds(Event begin, Event end) {
  Lock lock(twin().mutex);
  enter_plain("cudaEventElapsedTime");
  return std::chrono::duration<float, std::milli>(*end->time - *begin->time).count();
}

void begin_capture(Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaStreamBeginCapture");
  if (!stream) fail(Failure::invalid_call, "cudaStreamBeginCapture", "the default stream cannot be captured");
  if (stream->capture) fail(Failure::invalid_call, "cudaStreamBeginCapture", "the stream is being captured");
  stream->capture = std::make_unique<OpaqueGraph>();
  stream->capturing_thread = std::this_thread::get_id();
}
Graph end_capture(Stream stream) {
  Lock lock(twin().mutex);
  if (stream && stream->capture) {  // a capture ends even when the call fails
    std::unique_ptr<OpaqueGraph> graph = std::move(stream->capture);
    enter_plain("cudaStreamEndCapture");
    if (stream->capturing_thread != std::this_thread::get_id())
      fail(Failure::invalid_call, "cudaStreamEndCapture", "another thread began the capture");
    return graph.release();
  }
  enter_plain("cudaStreamEndCapture");
  fail(Failure::invalid_call, "cudaStreamEndCapture", "the stream is not being captured");
}
void destroy(Graph graph) noexcept { delete graph; }
GraphExec instantiate(Graph graph) {
  Lock lock(twin().mutex);
  enter_plain("cudaGraphInstantiate");
  return new OpaqueGraphExec{graph->work};
}
bool update(GraphExec exec, Graph graph) {
  Lock lock(twin().mutex);
  enter_plain("cudaGraphExecUpdate");
  if (exec->work.size() != graph->work.size()) return false;
  for (std::size_t i = 0; i < graph->work.size(); i++)
    if (std::strcmp(exec->work[i].kind, graph->work[i].kind) != 0 ||
        exec->work[i].kernel != graph->work[i].kernel)
      return false;
  exec->work = graph->work;
  return true;
}
void launch(GraphExec exec, Stream stream) {
  Lock lock(twin().mutex);
  enter_plain("cudaGraphLaunch");
  give(stream_of(stream), {"graph", nullptr, [work = exec->work] {
                             for (const Work& w : work) w.run();
                           }});
}
void destroy(GraphExec exec) noexcept { delete exec; }

KernelAttributes kernel_attributes(const void* kernel, const char*) {
  Lock lock(twin().mutex);
  enter_plain("cudaFuncGetAttributes");
  KernelAttributes a;
  a.registers = 32;
  a.max_threads_per_block = 1024;
  const auto raised = twin().dynamic_shared.find(kernel);
  a.max_dynamic_shared = raised == twin().dynamic_shared.end() ? kDefaultDynamicShared : raised->second;
  return a;
}
void set_max_dynamic_shared(const void* kernel, const char* name, std::size_t bytes) {
  Lock lock(twin().mutex);
  enter_plain(std::string("kernel ") + name);
  if (bytes > twin().properties.shared_per_block) fail(Failure::invalid_call, std::string("kernel ") + name);
  twin().dynamic_shared[kernel] = bytes;
}
int max_blocks_per_multiprocessor(const void*, const char*, int threads, std::size_t shared_bytes) {
  Lock lock(twin().mutex);
  enter_plain("cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  const int by_threads = threads > 0 ? twin().properties.max_threads_per_multiprocessor / threads : 0;
  const auto by_shared =
      static_cast<int>(twin().properties.shared_per_multiprocessor / (shared_bytes + 1024));
  return by_threads < by_shared ? by_threads : by_shared;
}

void detail::launch_kernel(const LaunchConfig& config, const KernelCall& call, void* arguments) {
  Lock lock(twin().mutex);
  const std::string name = std::string("kernel ") + config.name;
  enter_plain(name);
  const auto raised = twin().dynamic_shared.find(call.kernel);
  const std::size_t allowed = raised == twin().dynamic_shared.end()
                                  ? kDefaultDynamicShared
                                  : std::max(raised->second, kDefaultDynamicShared);
  if (config.dynamic_shared > allowed)
    fail(Failure::too_large, name,
         std::to_string(config.dynamic_shared) + " bytes of dynamic shared memory, " +
             std::to_string(allowed) + " allowed (set_max_dynamic_shared)");
  const std::shared_ptr<void> copy(call.copy(arguments), call.drop);
  give(stream_of(config.stream),
       {"kernel", call.kernel, [config, call, copy] { run_grid(config, call, copy.get()); }});
}

}  // namespace cria::cuda
