// The ceilings of this machine under its current load, to compare benchmarks with.
#pragma once

#include <string>

#include "core/cancel.h"
#include "kernels/elementary.h"

namespace cria {

/// Takes about two seconds and 512 MiB. `threads` 0: usable cores; `isa` empty: the level in use. Throws
/// ERR_OUT_OF_MEMORY, ERR_ABORTED, and ERR_INVALID_ARGUMENT for a level that is not available.
DeviceCeilings measure_machine(int threads, const CancelFlag& cancel, const std::string& isa = {});

}  // namespace cria
