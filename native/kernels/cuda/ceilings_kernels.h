// The kernels behind ceilings.cc. Each saturates one unit of the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

/// Threads per block.
inline constexpr int kCeilingThreads = 256;
/// Independent chains per thread, which hide the latency of the instruction.
inline constexpr int kCeilingChains = 8;

/// Reads all of x (aligned to 16 bytes) once. out: [blocks * kCeilingThreads], here and below.
void ceiling_read(const void* x, std::size_t bytes, std::uint32_t* out, unsigned blocks, Stream stream);
/// Each thread does `rounds` times kCeilingChains fma.
void ceiling_fma(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);
/// Each warp does `rounds` times kCeilingChains mma: m16n8k32 of bytes, m16n8k16 of BF16.
void ceiling_mma_int8(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);
void ceiling_mma_bf16(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);

}  // namespace cria::cuda
