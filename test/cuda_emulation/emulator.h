// The emulator as the tests and the runtime's twin see it: options, and running one grid.
//
// A block's threads are fibers of one OS thread. They run in an order drawn from a seed, each up to its next
// barrier or collective; a block of a grid is followed by another in an order drawn too, a few of them being
// under way at once. Whatever goes wrong ends the launch with a KernelFault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "kernels/cuda/launch.h"

namespace cria::cuda::emulation {

/// What a kernel did that a GPU would not have forgiven, or not have shown.
class KernelFault : public Error {
 public:
  KernelFault(std::string kernel, const std::string& where, const std::string& what)
      : Error(ErrorCode::internal, "kernel " + kernel + where + ": " + what,
              {{"kernel", kernel}, {"restart", "process"}}),
        what_(what) {}
  const std::string& found() const { return what_; }

 private:
  std::string what_;
};

struct Options {
  std::uint64_t seed = 1;   // of every choice; CRIA_TEST_SEED sets it at the start
  int resident_blocks = 4;  // at most so many are under way at once; a cooperative grid is as a whole
  std::size_t max_blocks_of_cooperative_grid = 264;
  bool random_spurious_waits = true;  // mbarrier_try_wait sometimes gives up, as it may
};
Options& options();

/// Totals since the start: what the tests measure.
struct Counters {
  std::uint64_t launches = 0, blocks = 0, threads = 0, switches = 0;
};
Counters& counters();

/// Runs the grid to its end.
void run_grid(const LaunchConfig& config, const KernelCall& call, void* arguments);

/// Whether the kernels were compiled with the race detector's hooks, and any of them ran.
bool race_detector_active();

constexpr unsigned char kNanByte = 0xff;    // fresh memory: NaN in every float type
constexpr unsigned char kGuardByte = 0xfd;  // gaps that nobody may touch; as a float a NaN too

}  // namespace cria::cuda::emulation
