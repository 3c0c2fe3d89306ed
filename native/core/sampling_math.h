// The arithmetic of sampling, shared by the host's sampler and the CUDA kernels, which must choose the same
// tokens: probabilities as integers, tokens in a strict order, counter-based random bits.
//
// A token's weight is exp((logit - max logit) / temperature) in units of 2^-44. Integers add up to the same
// total in any order, so a choice made from them cannot depend on vector width, threads or the partition
// order of a library. The exponential consists of single float32 operations for the same reason. A weight
// below 2^-44 of the largest is 0.
#pragma once

#include <stdint.h>

#include "core/host_device.h"

namespace cria {

inline constexpr float kWeightOne = 0x1p44f;

/// exp(x) for x <= 0, relative error below 2e-7; exactly 1 at 0; x below -80 counts as -80. `Float` is float
/// or a vector of floats, `Bits` the unsigned integers of the same shape, which wrap. Reduction and
/// polynomial: Moshier's Cephes library, expf.
template <class Float, class Bits>
CRIA_HOST_DEVICE static inline Float exp_nonpositive_as(Float x) {
  x = x > -80.0f ? x : Float{} - 80.0f;
  const Float shifted = x * 1.44269504088896341f + 0x1.8p23f;  // the low mantissa bits hold the integer
  const Float n = shifted - 0x1.8p23f;
  const Float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Float p = Float{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return __builtin_bit_cast(Float, __builtin_bit_cast(Bits, p) + (__builtin_bit_cast(Bits, shifted) << 23));
}

/// The weight of a logit that lies `distance` <= 0 from the largest.
CRIA_HOST_DEVICE static inline uint64_t weight_of(float distance, float inverse_temperature) {
  const float e = exp_nonpositive_as<float, uint32_t>(distance * inverse_temperature);
  return static_cast<uint64_t>(static_cast<int64_t>(e * kWeightOne));
}

/// Bits ordered like the floats. `value` is not NaN; -0 and 0 are one value.
CRIA_HOST_DEVICE static inline uint32_t ascending_bits(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// The order of tokens: largest logit first, lowest id among equals. Keys are unique, so sorting and partial
/// sorting have one outcome on every platform.
CRIA_HOST_DEVICE static inline uint64_t descending_key(float logit, uint32_t id) {
  return static_cast<uint64_t>(~ascending_bits(logit)) << 32 | id;
}

/// The upper 64 bits of a * b.
CRIA_HOST_DEVICE static inline uint64_t multiply_high(uint64_t a, uint64_t b) {
  const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  const uint64_t lower = a0 * b1 + (middle & 0xffffffffu);
  return a1 * b1 + (middle >> 32) + (lower >> 32);
}

/// Philox4x32-10, a counter-based generator: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011. `counter` becomes the result.
CRIA_HOST_DEVICE static inline void philox4x32_10(uint32_t (&counter)[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0], b = uint64_t{0xCD9E8D57u} * counter[2];
    counter[0] = static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key0;
    counter[1] = static_cast<uint32_t>(b);
    counter[2] = static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key1;
    counter[3] = static_cast<uint32_t>(a);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

/// 64 uniform bits for the token at `position` of its sequence. They depend on nothing else, so a request's
/// tokens do not depend on its batch, on threads or on the device. Key: low and high word of the seed;
/// counter: low and high word of the position, 0, 0; the result is words 0 and 1.
CRIA_HOST_DEVICE static inline uint64_t random_bits(uint64_t seed, uint64_t position) {
  uint32_t words[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  philox4x32_10(words, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return words[0] | static_cast<uint64_t>(words[1]) << 32;
}

}  // namespace cria
