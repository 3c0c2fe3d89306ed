// The ceilings of this machine as it is now, for benchmarks to be compared with.
#pragma once

#include <string>

#include "core/cancel.h"

namespace cria {

struct MachineCeilings {
  int threads;
  double read_gbs;    // 10^9 bytes per second, all threads streaming from memory
  double int8_gmacs;  // 10^9 multiply-adds per second of the level in use (isa.h), all threads together
  double f32_gmacs;
  double bf16_gmacs;  // 0, as the two above: the level has no such instruction, or it is not measured here
};

/// Takes about two seconds and 512 MiB. `threads` 0: usable cores; `isa` empty: the level in use. Throws
/// ERR_OUT_OF_MEMORY, ERR_ABORTED, and ERR_INVALID_ARGUMENT for a level that is not to be had here.
MachineCeilings measure_machine(int threads, const CancelFlag& cancel, const std::string& isa = {});

}  // namespace cria
