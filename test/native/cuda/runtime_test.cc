// The contract of runtime.h, on the emulator and on a device alike.
#include "kernels/cuda/runtime.h"

#include "core/error.h"
#include "cuda/support.h"
#include "kernels/cuda/swiglu.h"

using namespace cria;
using namespace cria::test;

namespace {

float silu_of(float gate, float up) { return gate / (1.0f + std::exp(-gate)) * up; }

}  // namespace

TEST_CASE("the device describes itself") {
  const cuda::DriverInfo driver = cuda::probe_driver();
  CHECK(driver.state == cuda::DriverState::ready);
  CHECK(driver.device_count >= 1);
  cuda::set_device(0);
  const cuda::DeviceProperties p = cuda::device_properties(0);
  CHECK(!p.name.empty());
  CHECK(p.major * 10 + p.minor >= 75);
  CHECK(p.multiprocessors > 0);
  CHECK(p.shared_per_block >= 48 << 10);
  const cuda::MemoryInfo memory = cuda::memory_info();
  CHECK(memory.free <= memory.total);
  CHECK_THROWS_AS(cuda::device_properties(9999), Error);
}

TEST_CASE("too large an allocation is told with numbers") {
  try {
    cuda::allocate(std::size_t{1} << 50, "the test");
    FAIL("a petabyte was allocated");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::out_of_memory);
    REQUIRE(e.details().size() == 2);
    CHECK(e.details()[0].value.number() == std::ldexp(1.0, 50));
    CHECK(e.details()[1].value.number() > 0);
  }
  const DeviceArray<float> next(100);  // the device stays usable
  CHECK(next.data() != nullptr);
}

TEST_CASE("streams, events and pinned memory") {
  CRIA_SEEDED_RNG(rng);
  const std::size_t n = 1000, bytes = n * sizeof(float);
  const cuda::Stream first = cuda::create_stream(), second = cuda::create_stream();
  const cuda::Event begin = cuda::create_event(), ready = cuda::create_event();
  auto* host = static_cast<float*>(cuda::allocate_pinned(2 * bytes, "the test"));
  const std::vector<float> x = random_floats(rng, n);
  const DeviceArray<float> a(n), b(n), c(n);
  std::memcpy(host, x.data(), bytes);
  cuda::record(begin, first);
  cuda::copy_to_device(a.data(), host, bytes, first);
  cuda::copy_on_device(b.data(), a.data(), bytes, first);
  cuda::record(ready, first);
  cuda::wait(second, ready);  // without it `second` might run before `first` has anything
  cuda::silu_mul(a.data(), b.data(), c.data(), static_cast<std::int64_t>(n), second);
  cuda::copy_to_host(host + n, c.data(), bytes, second);
  cuda::synchronize(second);
  for (std::size_t i = 0; i < n; i++)
    REQUIRE(host[n + i] == doctest::Approx(silu_of(x[i], x[i])).epsilon(1e-5));
  cuda::synchronize(ready);
  CHECK(cuda::elapsed_milliseconds(begin, ready) >= 0);
  cuda::fill_bytes(c.data(), 0, bytes, second);
  cuda::copy_to_host(host, c.data(), bytes, second);
  cuda::synchronize(second);
  CHECK(host[n - 1] == 0.0f);
  cuda::release_pinned(host);
  cuda::destroy(begin);
  cuda::destroy(ready);
  cuda::destroy(first);
  cuda::destroy(second);
}

TEST_CASE("a graph runs as often as it is launched, and takes new arguments") {
  const std::size_t n = 300;
  const cuda::Stream stream = cuda::create_stream();
  const DeviceArray<float> gate(std::vector<float>(n, 1.0f)), up(std::vector<float>(n, 2.0f)), h(n), other(n);
  const auto capture = [&](float* out, int times) {
    cuda::begin_capture(stream);
    for (int i = 0; i < times; i++)
      cuda::silu_mul(gate.data(), up.data(), out, static_cast<std::int64_t>(n), stream);
    cuda::copy_on_device(up.data(), out, n * sizeof(float), stream);
    return cuda::end_capture(stream);
  };
  const cuda::Graph graph = capture(h.data(), 1);
  const cuda::GraphExec exec = cuda::instantiate(graph);
  CHECK(up.get()[0] == 2.0f);  // nothing ran yet
  for (int i = 0; i < 3; i++) cuda::launch(exec, stream);
  cuda::synchronize(stream);
  const float factor = silu_of(1.0f, 1.0f);
  CHECK(h.get()[n - 1] == doctest::Approx(2.0f * factor * factor * factor));

  const cuda::Graph changed = capture(other.data(), 1), longer = capture(other.data(), 2);
  CHECK(cuda::update(exec, changed));
  cuda::launch(exec, stream);
  cuda::synchronize(stream);
  CHECK(other.get()[0] == doctest::Approx(2.0f * std::pow(factor, 4.0f)));
  CHECK(!cuda::update(exec, longer));
  for (const cuda::Graph g : {graph, changed, longer}) cuda::destroy(g);
  cuda::destroy(exec);
  cuda::destroy(stream);
}
