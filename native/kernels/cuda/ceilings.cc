#include "kernels/cuda/ceilings.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "kernels/cuda/ceilings_kernels.h"
#include "kernels/cuda/owned.h"

namespace cria::cuda {
namespace {

/// Blocks per multiprocessor: 2048 threads.
constexpr int kBlocks = 8;

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
  /// The fastest of five runs: other work on the device can only slow a run down.
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

/// 10^9 multiply-adds per second of `run(rounds)`, with enough rounds for a millisecond.
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
  const double threads = static_cast<double>(blocks) * kCeilingThreads;
  const std::size_t bytes = 16 * std::max(device.l2_bytes, std::size_t{1} << 16);
  const auto memory = allocate_array<std::byte>(bytes, "measuring the memory's bandwidth");
  const auto results = allocate_array<std::uint32_t>(std::size_t{blocks} * kCeilingThreads, "measuring");
  fill_bytes(memory.get(), 1, bytes, stream);
  Stopwatch watch(stream, cancel);
  DeviceCeilings found{0, 0, 0, 0, 0};
  found.read_gbs = 1e-9 * static_cast<double>(bytes) / watch.best_seconds([&] {
    ceiling_read(memory.get(), bytes, results.get(), blocks, stream);
  });
  const auto rate_of = [&](double macs_a_round, auto kernel) {
    return gmacs(watch, macs_a_round, [&](int rounds) { kernel(rounds, results.get(), blocks, stream); });
  };
  found.f32_gmacs = rate_of(threads * kCeilingChains, ceiling_fma);
  const double mmas = threads / 32 * kCeilingChains;  // per round
  found.int8_gmacs = rate_of(mmas * 16 * 8 * 32, ceiling_mma_int8);
  if (device.major >= 8) found.bf16_gmacs = rate_of(mmas * 16 * 8 * 16, ceiling_mma_bf16);
  synchronize(stream);
  return found;
}

}  // namespace cria::cuda
