// The elementary ops through the CUDA backend, on the emulated device: against the CPU where bits must be
// equal, with more rows than one launch takes, with memory that outlives its backend, and with a failure at
// every call.
#include "kernels/elementary.h"

#include <functional>
#include <memory>
#include <optional>

#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/runtime_twin.h"
#include "kernels/cuda/weight_upload.h"
#include "kernels/support.h"
#include "test_device.h"

using namespace cria;
using namespace cria::test;
using namespace cria::cuda::emulation;
using cuda::Failure;

namespace {

std::unique_ptr<Backend> device() { return create_backend({.device = kTestDevice}); }

TensorMemory on_host(const void* values, std::size_t bytes) {
  TensorMemory memory = allocate_host(bytes);
  std::memcpy(memory.data, values, bytes);
  return memory;
}
TensorMemory up(ElementaryOps& ops, const std::vector<float>& values) {
  return ops.to_device(on_host(values.data(), values.size() * sizeof(float)));
}
float* floats(const TensorMemory& memory) { return reinterpret_cast<float*>(memory.data); }
std::vector<float> down(ElementaryOps& ops, const TensorMemory& memory) {
  const TensorMemory host = ops.to_host(memory);
  return {floats(host), floats(host) + host.bytes / sizeof(float)};
}

struct Product {
  TestMatrix weight;
  std::vector<float> x, y;
  Product(std::mt19937_64& rng, DType dtype, std::int64_t tokens, std::int64_t rows, std::int64_t cols)
      : weight(rng, dtype, rows, cols),
        x(random_floats(rng, static_cast<std::size_t>(tokens * cols))),
        y(random_floats(rng, static_cast<std::size_t>(tokens * rows))) {}

  std::vector<float> on(Backend& backend, bool accumulate) const {
    ElementaryOps& ops = backend.elementary();
    const WeightSpec spec{weight.dtype, weight.rows, weight.cols};
    const TensorMemory host = on_host(weight.bytes.data(), weight.bytes.size());
    const PackedWeights packed = ops.pack_weights({&spec, 1}, {&host, 1});
    const TensorMemory from = up(ops, x), to = up(ops, y);
    ops.matmul({static_cast<std::int64_t>(x.size()) / weight.cols, packed.weights[0], floats(from),
                floats(to), accumulate});
    return down(ops, to);
  }
};

/// Calls each function that a script can; returns the last result.
std::vector<float> short_script(Backend& backend) {
  ElementaryOps& ops = backend.elementary();
  std::mt19937_64 rng(7);
  const Product product(rng, DType::q4_0, 3, 20, 64);
  const std::vector<float> y = product.on(backend, true);
  const TensorMemory x = up(ops, y), out = ops.allocate(x.bytes);
  const double us = ops.time_us([&] { ops.softmax({3, 20, floats(x), floats(out)}); });
  CHECK(us > 0);
  PassLimits limits;
  limits.shape = {1, 1, 2, 2, false};
  limits.kv_dtype = DType::f32;
  limits.max_tokens = limits.max_sequences = limits.max_pages = 3;
  limits.vocab = 20;
  backend.passes().prepare(limits);
  std::uint32_t ids[3];
  float sums[3];
  ops.argmax({.n_rows = 3, .cols = 20, .x = floats(out), .argmax = ids, .log_sum_exp = sums});
  std::vector<float> found = down(ops, out);
  for (int i = 0; i < 3; i++) found.push_back(static_cast<float>(ids[i]));
  return found;
}

}  // namespace

TEST_CASE("elementary on CUDA: products of quantized and F32 weights have the CPU's bits, over a chunk too") {
  CRIA_SEEDED_RNG(rng);
  const auto cpu = create_backend({.device = "cpu", .threads = 1});
  const auto cuda = device();
  for (const DType dtype : {DType::f32, DType::q4_0, DType::q5_1, DType::q8_0, DType::q2_k, DType::q6_k})
    for (const auto& [tokens, rows] : {std::pair<std::int64_t, std::int64_t>{1, 33}, {9, 16}, {4099, 1}}) {
      CAPTURE(name_of(dtype));
      CAPTURE(tokens);
      const Product product(rng, dtype, tokens, rows, 256);
      for (const bool accumulate : {false, true})
        CHECK(same_bits(product.on(*cuda, accumulate), product.on(*cpu, accumulate)));
    }
}

TEST_CASE("elementary on CUDA: gate and up are fused, other matrices lie end to end") {
  CRIA_SEEDED_RNG(rng);
  const auto backend = device();
  const TestMatrix a(rng, DType::q8_0, 16, 32), b(rng, DType::q8_0, 16, 32);
  const TensorMemory host[] = {on_host(a.bytes.data(), a.bytes.size()),
                               on_host(b.bytes.data(), b.bytes.size())};
  const auto packed = [&](WeightUse first, WeightUse second) {
    const WeightSpec specs[] = {{DType::q8_0, 16, 32, first}, {DType::q8_0, 16, 32, second}};
    return backend->elementary().pack_weights(specs, host);
  };
  const PackedWeights pair = packed(WeightUse::gate, WeightUse::up);
  for (const Weight& w : pair.weights) CHECK(w.layout == cuda::kFusedGateUp);
  const PackedWeights both = packed(WeightUse::matrix, WeightUse::matrix);
  CHECK(both.weights[0].layout == cuda::kSeparate);
  CHECK(both.weights[1].layout == cuda::kContinuesPrevious);
  CHECK(static_cast<const std::byte*>(both.weights[1].data) ==
        static_cast<const std::byte*>(both.weights[0].data) + both.memory.bytes / 2);
}

TEST_CASE(
    "elementary on CUDA: memory is zero at first, survives its backend, and is freed by whoever has it "
    "last") {
  TensorMemory memory, other;
  {
    const auto backend = device();
    memory = backend->elementary().allocate(100);
    const TensorMemory host = backend->elementary().to_host(memory);
    CHECK(std::all_of(host.data, host.data + 100, [](std::byte b) { return b == std::byte{0}; }));
    CHECK(backend->elementary().allocate(0).data == nullptr);
    CHECK(backend->elementary().to_host({}).data == nullptr);
  }
  CHECK(device_allocations() == 1);
  {
    const auto backend = device();
    other = backend->elementary().allocate(100);
    backend->elementary().copy(other.data, memory.data, 100);
  }
  memory = {};
  other = {};
  CHECK(device_allocations() == 0);
}

TEST_CASE("elementary on CUDA: argmax of another shape, and of the first again") {
  CRIA_SEEDED_RNG(rng);
  const auto backend = device();
  ElementaryOps& ops = backend->elementary();
  const std::vector<float> logits = random_floats(rng, 5 * 300);
  const TensorMemory on_device = up(ops, logits);
  const auto greedy = [&](std::int64_t rows, std::int64_t vocab) {
    std::vector<std::uint32_t> ids(static_cast<std::size_t>(rows));
    std::vector<float> sums(ids.size());
    ops.argmax({.n_rows = rows,
                .cols = vocab,
                .x = floats(on_device),
                .argmax = ids.data(),
                .log_sum_exp = sums.data()});
    for (std::size_t r = 0; r < ids.size(); r++) {
      const auto first = logits.begin() + static_cast<std::ptrdiff_t>(r) * vocab;
      CHECK(ids[r] == static_cast<std::uint32_t>(std::max_element(first, first + vocab) - first));
    }
  };
  greedy(5, 300);
  greedy(2, 100);
  greedy(150, 10);
  greedy(5, 300);
}

TEST_CASE(
    "elementary on CUDA: a failure at any call is a typed error, leaks nothing, and the next script works") {
  const std::vector<float> expected = short_script(*device());
  CHECK(device_allocations() == 0);
  const std::pair<Failure, ErrorCode> failures[] = {{Failure::invalid_call, ErrorCode::internal},
                                                    {Failure::out_of_memory, ErrorCode::out_of_memory},
                                                    {Failure::device_lost, ErrorCode::device_lost}};
  for (const auto& [failure, code] : failures) {
    std::uint64_t n = 1;
    for (bool failed = true; failed; n++) {
      CAPTURE(n);
      auto backend = device();
      fail_call(n, failure);
      std::optional<Error> error;
      try {
        const std::vector<float> found =
            short_script(*backend);  // outside CHECK, which would catch exceptions
        CHECK(same_bits(found, expected));
      } catch (const Error& e) {
        error = e;
      }
      failed = !cancel_failure();
      if (error) CHECK(error->code() == code);
      if (failure == Failure::device_lost) {
        backend.reset();
        restore_device();
        backend = device();
      }
      CHECK(same_bits(short_script(*backend), expected));
      backend.reset();
      CHECK(device_allocations() == 0);
      CHECK(queued_work() == 0);
    }
    CHECK(n > 40);
  }
}
