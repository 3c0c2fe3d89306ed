// Philox4x32-10, a counter-based generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011. A draw depends on nothing but the key and the counter, so a request's tokens do not
// depend on what else runs in its batch, on threads or on the device.
//
// cria's use of it, for any device to compute the same:
//   key     = {low, high 32 bits of the seed}
//   counter = {low, high 32 bits of the position, 0, 0}
//   random_bits = word 0 of the result | word 1 << 32
#pragma once

#include <array>
#include <cstdint>

namespace cria {

std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter,
                                           std::array<std::uint32_t, 2> key) noexcept;

/// 64 uniform bits for the token at `position` of its sequence.
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t position) noexcept;

/// The upper 53 of random_bits() as a fraction: in [0, 1), exact.
double uniform(std::uint64_t seed, std::uint64_t position) noexcept;

}  // namespace cria
