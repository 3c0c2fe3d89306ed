// What a CUDA device can do at most, measured by kernels that do nothing else.
#pragma once

#include "core/cancel.h"
#include "kernels/cuda/runtime.h"
#include "kernels/elementary.h"

namespace cria::cuda {

/// The bandwidth of 16-byte loads from memory, and the rates of the instructions that cria's own kernels
/// multiply with: fma of float32, mma.sync of int8 and of BF16 (0 before sm_80, which has none). Takes
/// sixteen times the L2 cache of memory. Throws ERR_OUT_OF_MEMORY, ERR_ABORTED.
DeviceCeilings measure_ceilings(const DeviceProperties& device, Stream stream, const CancelFlag& cancel);

}  // namespace cria::cuda
