// The peak rates of a CUDA device, measured.
#pragma once

#include "core/cancel.h"
#include "kernels/cuda/runtime.h"
#include "kernels/elementary.h"

namespace cria::cuda {

/// The bandwidth of 16-byte loads from memory, and the rates of the instructions that cria's kernels multiply
/// with: float32 fma, and mma.sync of int8 and of BF16 (0 before sm_80, which has no such instruction).
/// Allocates sixteen times the size of the L2 cache. Throws ERR_OUT_OF_MEMORY, ERR_ABORTED.
DeviceCeilings measure_ceilings(const DeviceProperties& device, Stream stream, const CancelFlag& cancel);

}  // namespace cria::cuda
