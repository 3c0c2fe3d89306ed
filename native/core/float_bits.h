// Bitwise conversions between float32 and its 16-bit storage types, identical on every machine.
// Sources: IEEE 754-2019 binary16; bfloat16 is the upper half of a float32.
//
// The functions have internal linkage and need no library, so objects compiled for one instruction set may
// include this header. They agree bit for bit with F16C (vcvtph2ps, and vcvtps2ph rounding to nearest even).
// AVX-512's vcvtneps2bf16 differs in one point: it flushes subnormals to zero, these functions keep them.
#pragma once

#include <stdint.h>

namespace cria {

static constexpr uint32_t float_bits(float value) { return __builtin_bit_cast(uint32_t, value); }
static constexpr float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

/// Exact. A NaN keeps its sign and payload and becomes quiet.
static constexpr float f16_to_f32(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude > 0x7c00u) return float_from_bits(sign | 0x7fc00000u | (magnitude & 0x3ffu) << 13);
  if (magnitude == 0x7c00u) return float_from_bits(sign | 0x7f800000u);
  if (magnitude >= 0x0400u) return float_from_bits(sign | ((magnitude << 13) + 0x38000000u));
  // Zero or subnormal: magnitude * 2^-24, which a float holds exactly.
  const float value = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
  return float_from_bits(sign | float_bits(value));
}

/// Rounds to nearest, ties to even; 65520 and above give infinity. A NaN keeps its sign and upper payload and
/// becomes quiet.
static constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = float_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    // A carry out of the mantissa increments the exponent, which is the correct rounding.
    const uint32_t rebased = magnitude - 0x38000000u;
    half = (rebased + 0x0fffu + ((rebased >> 13) & 1u)) >> 13;
  } else if (magnitude > 0x33000000u) {
    // Above 2^-25, which is half of the smallest subnormal.
    const uint32_t shift = 126u - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t kept = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1u);
    const uint32_t middle = 1u << (shift - 1u);
    half = kept + ((rest > middle || (rest == middle && (kept & 1u))) ? 1u : 0u);
  }
  return static_cast<uint16_t>(sign | half);
}

/// Exact. A NaN becomes quiet.
static constexpr float bf16_to_f32(uint16_t bits16) {
  const uint32_t bits = static_cast<uint32_t>(bits16) << 16;
  return float_from_bits((bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : bits);
}

/// Rounds to nearest, ties to even; subnormals are kept. A NaN keeps its sign and upper payload and becomes
/// quiet.
static constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace cria
