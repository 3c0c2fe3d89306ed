#include <algorithm>
#include <limits>

#include "kernels/cuda/ceilings.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/owned.h"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 8;  // for each multiprocessor: 2048 threads
constexpr int kChains = 8;  // of each thread, so that no instruction waits for the one before

}  // namespace

// Four loads of 16 bytes under way in each thread. What is read goes into one word a thread, so that it
// counts.
static __global__ void __launch_bounds__(kThreads)
    ceiling_read_kernel(const uint4* x, int64_t n, uint32_t* out) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  uint32_t bits = 0;
  for (int64_t i = thread; i < n; i += 4 * stride) {
    uint4 v[4];
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = i + k * stride < n ? x[i + k * stride] : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int k = 0; k < 4; k++) bits ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  out[thread] = bits;
}

static __global__ void __launch_bounds__(kThreads)
    ceiling_fma_kernel(int rounds, float factor, float summand, float* out) {
  float chain[kChains];
#pragma unroll
  for (int i = 0; i < kChains; i++) chain[i] = static_cast<float>(thread_in_block() + i);  // each lane's own
  for (int round = 0; round < rounds; round++)
#pragma unroll
    for (int i = 0; i < kChains; i++) chain[i] = fmaf(chain[i], factor, summand);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kChains; i++) sum += chain[i];
  out[static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block()] = sum;
}

// Of zeros, which let the clock be as high as it gets.
template <class T>
static __global__ void __launch_bounds__(kThreads) ceiling_mma_kernel(int rounds, T* out) {
  const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  T c[kChains][4] = {};
  for (int round = 0; round < rounds; round++)
#pragma unroll
    for (int i = 0; i < kChains; i++) {
      if constexpr (std::is_same_v<T, float>)
        mma_bf16(c[i], a, b);
      else
        mma_s8(c[i], a, b);
    }
  T sum = 0;
#pragma unroll
  for (int i = 0; i < kChains; i++)
    for (int k = 0; k < 4; k++) sum += c[i][k];
  out[static_cast<int64_t>(blockIdx.x) * kThreads + thread_in_block()] = sum;
}

namespace {

class Stopwatch {
 public:
  Stopwatch(Stream stream, const CancelFlag& cancel)
      : stream_(stream), cancel_(cancel), begin_(create_event()), end_(create_event()) {}

  template <class Run>
  double seconds(const Run& run) {
    cancel_.check();
    record(begin_.get(), stream_);
    run();
    record(end_.get(), stream_);
    synchronize(end_.get());
    return 1e-3 * static_cast<double>(elapsed_milliseconds(begin_.get(), end_.get()));
  }
  /// The fastest of some: whatever else the device does can only slow one down.
  template <class Run>
  double best_seconds(const Run& run) {
    seconds(run);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 5; i++) best = std::min(best, seconds(run));
    return best;
  }

 private:
  const Stream stream_;
  const CancelFlag& cancel_;
  const OwnedEvent begin_, end_;
};

/// Multiply-adds per second of `run(rounds)`, of as many rounds as take a millisecond.
template <class Run>
double gmacs(Stopwatch& watch, double macs_a_round, const Run& run) {
  constexpr double kLongEnough = 1e-3;
  int rounds = 1;
  while (rounds < 1 << 20 && watch.seconds([&] { run(rounds); }) < kLongEnough) rounds *= 4;
  return 1e-9 * macs_a_round * rounds / watch.best_seconds([&] { run(rounds); });
}

}  // namespace

DeviceCeilings measure_ceilings(const DeviceProperties& device, Stream stream, const CancelFlag& cancel) {
  const auto blocks = static_cast<unsigned>(device.multiprocessors * kBlocks);
  const double threads = static_cast<double>(blocks) * kThreads;
  const std::size_t bytes = 16 * std::max(device.l2_bytes, std::size_t{1} << 20);
  const auto memory = allocate_array<std::byte>(bytes, "measuring the memory's bandwidth");
  const auto results = allocate_array<std::uint32_t>(std::size_t{blocks} * kThreads, "measuring");
  fill_bytes(memory.get(), 1, bytes, stream);
  Stopwatch watch(stream, cancel);
  const auto config = [&](const char* name) {
    return LaunchConfig{.name = name, .grid = {blocks}, .block = {kThreads}, .stream = stream};
  };
  DeviceCeilings found{0, 0, 0, 0, 0};
  found.read_gbs = 1e-9 * static_cast<double>(bytes) / watch.best_seconds([&] {
    launch(config("ceiling_read"), ceiling_read_kernel, reinterpret_cast<const uint4*>(memory.get()),
           static_cast<int64_t>(bytes / sizeof(uint4)), results.get());
  });
  found.f32_gmacs = gmacs(watch, threads * kChains, [&](int rounds) {
    launch(config("ceiling_fma"), ceiling_fma_kernel, rounds, 0.5f, 1.0f,
           reinterpret_cast<float*>(results.get()));
  });
  const double mmas = threads / kWarpSize * kChains;  // a round
  found.int8_gmacs = gmacs(watch, mmas * 16 * 8 * 32, [&](int rounds) {
    launch(config("ceiling_int8"), ceiling_mma_kernel<std::int32_t>, rounds,
           reinterpret_cast<std::int32_t*>(results.get()));
  });
  if (device.major >= 8)
    found.bf16_gmacs = gmacs(watch, mmas * 16 * 8 * 16, [&](int rounds) {
      launch(config("ceiling_bf16"), ceiling_mma_kernel<float>, rounds,
             reinterpret_cast<float*>(results.get()));
    });
  synchronize(stream);
  return found;
}

}  // namespace cria::cuda
