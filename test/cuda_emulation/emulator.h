// The emulator's interface to the tests and to the runtime's twin: options, and running one grid.
//
// A block's threads are fibers of one OS thread. They run in a random order, each up to its next barrier or
// collective. Blocks run in a random order too, a few of them resident at once. One seed decides both orders.
// Any error ends the launch with a KernelFault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "kernels/cuda/launch.h"

namespace cria::cuda::emulation {

/// An error of a kernel: one that a GPU would not survive, or would not show.
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
  /// Decides every random choice. CRIA_TEST_SEED sets it at the start.
  std::uint64_t seed = 1;
  /// At most so many blocks are resident at once; all of a cooperative grid are.
  int resident_blocks = 4;
  std::size_t max_blocks_of_cooperative_grid = 264;
  /// mbarrier_try_wait sometimes returns early, as the instruction may.
  bool random_spurious_waits = true;
};
Options& options();

/// Totals since the start of the program.
struct Counters {
  std::uint64_t launches = 0, blocks = 0, threads = 0, switches = 0;
};
Counters& counters();

/// Runs a whole grid. Throws KernelFault.
void run_grid(const LaunchConfig& config, const KernelCall& call, void* arguments);

/// Whether the race detector's hooks are linked in.
bool race_detector_active();

/// Fills fresh memory: NaN in every float type.
constexpr unsigned char kNanByte = 0xff;
/// Fills guard gaps, which no thread may touch; as a float also NaN.
constexpr unsigned char kGuardByte = 0xfd;

}  // namespace cria::cuda::emulation
