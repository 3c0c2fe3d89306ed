// Which instruction set's kernels to run: the best this machine has, unless CRIA_CPU_ISA names another.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace cria {

/// Levels built into this library that this machine can run, lowest first; "portable" is always the first.
const std::vector<const CpuKernels*>& runnable_levels();

/// The level in use. Reads CRIA_CPU_ISA at every call. Throws ERR_INVALID_ARGUMENT when it names a level that
/// this machine or build lacks, and lists those that it has.
const CpuKernels& choose_level();

/// The level of that name, or, if it is empty, the level in use. Throws in the same way.
const CpuKernels& choose_level(const std::string& name);

}  // namespace cria
