// What only the twin can test: failures of every kind at every call, missing and old drivers, missing waits.
#include "cuda_emulation/runtime_twin.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/error.h"
#include "cuda/support.h"
#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/grid.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rmsnorm.h"

using namespace cria;
using namespace cria::test;
using namespace cria::cuda::emulation;
using cuda::DriverState;
using cuda::Failure;

namespace {

ErrorCode code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

/// All runtime calls of a backend's step, with owning handles.
void step() {
  struct Handles {
    cuda::Stream stream = nullptr;
    cuda::Event event = nullptr;
    cuda::Graph graph = nullptr;
    cuda::GraphExec exec = nullptr;
    void* pinned = nullptr;
    ~Handles() {
      if (exec) cuda::destroy(exec);
      if (graph) cuda::destroy(graph);
      if (event) cuda::destroy(event);
      if (stream) cuda::destroy(stream);
      if (pinned) cuda::release_pinned(pinned);
    }
  } h;
  cuda::set_device(0);
  cuda::memory_info();
  h.stream = cuda::create_stream();
  h.event = cuda::create_event();
  h.pinned = cuda::allocate_pinned(64, "the test");
  std::memset(h.pinned, 0, 64);
  const DeviceArray<float> x(16), weight(16), out(16);
  cuda::copy_to_device(x.data(), h.pinned, 64, h.stream);
  cuda::fill_bytes(weight.data(), 0, 64, h.stream);
  cuda::begin_capture(h.stream);
  cuda::rms_norm(x.data(), weight.data(), 1e-5f, out.data(), 1, 16, h.stream);
  h.graph = cuda::end_capture(h.stream);
  h.exec = cuda::instantiate(h.graph);
  cuda::launch(h.exec, h.stream);
  cuda::record(h.event, h.stream);
  cuda::copy_to_host(h.pinned, out.data(), 64, h.stream);
  cuda::synchronize(h.stream);
  float result;
  std::memcpy(&result, h.pinned, sizeof result);
  CHECK(result == 0.0f);
}

}  // namespace

TEST_CASE("a failure at any call is a typed error, leaks nothing, and the next step works") {
  step();
  const std::uint64_t before = runtime_calls();
  step();
  const std::uint64_t calls = runtime_calls() - before;
  CHECK(calls >= 15);
  const std::size_t allocations = device_allocations();
  const std::pair<Failure, ErrorCode> kinds[] = {{Failure::out_of_memory, ErrorCode::out_of_memory},
                                                 {Failure::invalid_call, ErrorCode::internal},
                                                 {Failure::no_kernel_image, ErrorCode::unsupported_device},
                                                 {Failure::device_lost, ErrorCode::device_lost}};
  for (const auto& [failure, code] : kinds)
    for (std::uint64_t n = 1; n <= calls; n++) {
      CAPTURE(n);
      fail_call(n, failure);
      CHECK(code_of(step) == code);
      CHECK(!cancel_failure());
      if (failure == Failure::device_lost) {
        CHECK(code_of(step) == ErrorCode::device_lost);  // stays lost
        restore_device();
      }
      CHECK(device_allocations() == allocations);
      CHECK(queued_work() == 0);
      step();
    }
}

TEST_CASE("a lost device says that the process must restart") {
  fail_call(1, Failure::device_lost);
  try {
    step();
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.details().back().value.text() == "process");
  }
  restore_device();
}

TEST_CASE("drivers that are missing, old or broken are told apart") {
  for (const auto& [state, version, says] : {std::tuple{DriverState::missing, 0, "no NVIDIA driver"},
                                             std::tuple{DriverState::too_old, 12040, "CUDA 12.4"},
                                             std::tuple{DriverState::no_device, 13000, "no device"},
                                             std::tuple{DriverState::broken, 13000, "does not work"}}) {
    set_driver(state, version);
    const cuda::DriverInfo info = cuda::probe_driver();
    CHECK(info.state == state);
    CHECK(info.device_count == 0);
    CAPTURE(info.message);
    CHECK(info.message.find(says) != std::string::npos);
    CHECK(code_of([] { cuda::set_device(0); }) == ErrorCode::unsupported_device);
  }
  set_driver(DriverState::ready, 13000);
  CHECK(cuda::probe_driver().state == DriverState::ready);
}

TEST_CASE("memory ends, with numbers, and begins again") {
  const std::size_t total = total_device_memory();
  set_total_device_memory(1 << 20);
  {
    const DeviceArray<float> most(200000);
    CHECK(code_of([] { DeviceArray<float> more(100000); }) == ErrorCode::out_of_memory);
  }
  const DeviceArray<float> again(200000);
  set_total_device_memory(total);
}

TEST_CASE("memory that is given back takes nothing of its neighbour along") {
  for (int i = 0; i < 64; i++) {  // wherever pages begin
    const DeviceArray<std::uint8_t> shift(
        std::vector<std::uint8_t>(static_cast<std::size_t>(256 * i + 1), 1));
    auto large = std::make_unique<DeviceArray<std::uint8_t>>((std::size_t{2} << 20) + 700);
    const std::vector<std::uint8_t> values(5000, 0x77);
    const DeviceArray<std::uint8_t> neighbour(values);
    large.reset();
    CHECK(neighbour.get() == values);
    CHECK(check_redzones().empty());
  }
}

TEST_CASE("what was not waited for has not happened") {
  const DeviceArray<float> x(std::vector<float>(8, 1.0f)), weight(std::vector<float>(8, 1.0f)), out(8);
  const cuda::Stream stream = cuda::create_stream();
  cuda::rms_norm(x.data(), weight.data(), 1e-5f, out.data(), 1, 8, stream);
  CHECK(queued_work() == 1);
  CHECK(std::isnan(out.get()[0]));  // on another stream, and too early
  cuda::synchronize(stream);
  CHECK(out.get()[0] == doctest::Approx(1.0f));
  cuda::destroy(stream);
}

TEST_CASE("misuse of the runtime") {
  const DeviceArray<float> x(8);
  float host[8] = {};
  const cuda::Stream stream = cuda::create_stream();
  CHECK(code_of([&] { cuda::copy_to_device(x.data(), host, 36, stream); }) == ErrorCode::internal);
  CHECK(code_of([&] { cuda::copy_to_host(host, host, 32, stream); }) == ErrorCode::internal);
  CHECK(code_of([&] { cuda::end_capture(stream); }) == ErrorCode::internal);
  cuda::begin_capture(stream);
  CHECK(code_of([&] { cuda::copy_to_device(x.data(), host, 32, stream); }) == ErrorCode::internal);
  CHECK(code_of([&] { cuda::synchronize(stream); }) == ErrorCode::internal);
  CHECK(code_of([&] { cuda::allocate(8, "a test"); }) == ErrorCode::internal);
  CHECK(code_of([&] { cuda::allocate_pinned(8, "a test"); }) == ErrorCode::internal);
  // Captures concern their own thread: another one may load a model meanwhile, but not end the capture.
  std::thread([&] {
    cuda::release(cuda::allocate(8, "a test"));
    cuda::release_pinned(cuda::allocate_pinned(8, "a test"));
  }).join();
  cuda::destroy(cuda::end_capture(stream));
  cuda::begin_capture(stream);
  std::thread([&] { CHECK(code_of([&] { cuda::end_capture(stream); }) == ErrorCode::internal); }).join();
  cuda::destroy(stream);
}
