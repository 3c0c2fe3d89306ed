// The kernels behind ceilings.cc: each does one thing, as much of it as the device can.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/runtime.h"

namespace cria::cuda {

inline constexpr int kCeilingThreads = 256;  // of a block
inline constexpr int kCeilingChains = 8;     // of a thread, so that no instruction waits for the one before

/// Reads all of x once, aligned to 16 bytes. out: [blocks * kCeilingThreads], as of all that follow.
void ceiling_read(const void* x, std::size_t bytes, std::uint32_t* out, unsigned blocks, Stream stream);
/// Each thread: `rounds` times kCeilingChains fma.
void ceiling_fma(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);
/// Each warp: `rounds` times kCeilingChains products of 16 x 8 x 32 bytes, and of 16 x 8 x 16 BF16.
void ceiling_mma_int8(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);
void ceiling_mma_bf16(int rounds, std::uint32_t* out, unsigned blocks, Stream stream);

}  // namespace cria::cuda
