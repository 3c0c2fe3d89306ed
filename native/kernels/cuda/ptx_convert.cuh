// Conversions, integer and bit instructions, approximations: instructions of one thread.
#pragma once

#include "kernels/cuda/device.cuh"

namespace cria::cuda {

// ---- f16 and bf16, as bits. Conversions to them round to nearest even. ----

CRIA_DEVICE float f16_to_float(uint16_t bits) {
#ifdef CRIA_CUDA_EMULATED
  return f16_to_f32(bits);
#else
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
#endif
}

CRIA_DEVICE uint16_t float_to_f16(float x) {
#ifdef CRIA_CUDA_EMULATED
  return f32_to_f16(x);
#else
  uint16_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
#endif
}

CRIA_DEVICE float bf16_to_float(uint16_t bits) { return float_of_bits(static_cast<uint32_t>(bits) << 16); }

CRIA_DEVICE uint16_t float_to_bf16(float x) {
#if defined(CRIA_CUDA_EMULATED)
  return f32_to_bf16(x);
#elif __CUDA_ARCH__ >= 800
  uint16_t out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
#else
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // the NaN that the instruction gives
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}

/// Rounds two floats to a pair; `low` goes to the lower half.
CRIA_DEVICE uint32_t pack_f16x2(float low, float high) {
#if defined(CRIA_CUDA_EMULATED) || __CUDA_ARCH__ < 800
  return static_cast<uint32_t>(float_to_f16(high)) << 16 | float_to_f16(low);
#else
  uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
#endif
}
CRIA_DEVICE uint32_t pack_bf16x2(float low, float high) {
#if defined(CRIA_CUDA_EMULATED) || __CUDA_ARCH__ < 800
  return static_cast<uint32_t>(float_to_bf16(high)) << 16 | float_to_bf16(low);
#else
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
#endif
}
CRIA_DEVICE float2 unpack_f16x2(uint32_t pair) {
  return make_float2(f16_to_float(static_cast<uint16_t>(pair)),
                     f16_to_float(static_cast<uint16_t>(pair >> 16)));
}
CRIA_DEVICE float2 unpack_bf16x2(uint32_t pair) {
  return make_float2(float_of_bits(pair << 16), float_of_bits(pair & 0xffff0000u));
}

/// a * b + c on pairs, each rounded once.
CRIA_DEVICE uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::fma_f16x2(a, b, c);
#else
  uint32_t out;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
#endif
}
CRIA_DEVICE uint32_t add_f16x2(uint32_t a, uint32_t b) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::fma_f16x2(a, 0x3c003c00u, b);
#else
  uint32_t out;
  asm("{add.rn.f16x2 %0, %1, %2;}" : "=r"(out) : "r"(a), "r"(b));
  return out;
#endif
}
CRIA_DEVICE uint32_t sub_f16x2(uint32_t a, uint32_t b) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::fma_f16x2(b, 0xbc00bc00u, a);
#else
  uint32_t out;
  asm("{sub.rn.f16x2 %0, %1, %2;}" : "=r"(out) : "r"(a), "r"(b));
  return out;
#endif
}
CRIA_DEVICE uint32_t mul_f16x2(uint32_t a, uint32_t b) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::fma_f16x2(a, b, 0x80008000u);
#else
  uint32_t out;
  asm("{mul.rn.f16x2 %0, %1, %2;}" : "=r"(out) : "r"(a), "r"(b));
  return out;
#endif
}

// ---- integers ----

/// c + the sum of four products of signed bytes.
CRIA_DEVICE int32_t dp4a(int32_t a, int32_t b, int32_t c) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::dp4a(static_cast<uint32_t>(a), static_cast<uint32_t>(b), c, true);
#else
  int32_t out;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
#endif
}
/// The same with unsigned bytes in `a`.
CRIA_DEVICE int32_t dp4a_unsigned(uint32_t a, int32_t b, int32_t c) {
#ifdef CRIA_CUDA_EMULATED
  return emulation::dp4a(a, static_cast<uint32_t>(b), c, false);
#else
  int32_t out;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
#endif
}

/// Any bitwise function of three words: `table` is its value for 0xf0, 0xcc and 0xaa.
template <int table>
CRIA_DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
#ifdef CRIA_CUDA_EMULATED
  uint32_t out = 0;
  for (int i = 0; i < 8; i++)
    if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return out;
#else
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(out) : "r"(a), "r"(b), "r"(c), "n"(table));
  return out;
#endif
}

/// Sum, maximum and minimum over the warp, in every lane.
CRIA_DEVICE int32_t warp_sum(int32_t x) {
#if defined(CRIA_CUDA_EMULATED)
  return emulation::reduce_signed(kFullWarp, x, emulation::Reduction::add);
#elif __CUDA_ARCH__ >= 800
  return __reduce_add_sync(kFullWarp, x);
#else
  for (int step = 16; step; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
#endif
}
CRIA_DEVICE uint32_t warp_max(uint32_t x) {
#if defined(CRIA_CUDA_EMULATED)
  return emulation::reduce_unsigned(kFullWarp, x, emulation::Reduction::max);
#elif __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kFullWarp, x);
#else
  for (int step = 16; step; step /= 2) x = max(x, __shfl_xor_sync(kFullWarp, x, step));
  return x;
#endif
}
CRIA_DEVICE uint32_t warp_min(uint32_t x) {
#if defined(CRIA_CUDA_EMULATED)
  return emulation::reduce_unsigned(kFullWarp, x, emulation::Reduction::min);
#elif __CUDA_ARCH__ >= 800
  return __reduce_min_sync(kFullWarp, x);
#else
  for (int step = 16; step; step /= 2) x = min(x, __shfl_xor_sync(kFullWarp, x, step));
  return x;
#endif
}

// ---- approximations: within 2 ulp, subnormals may be flushed ----

/// 2^x: exactly 1 for 0, and 0 for -infinity.
CRIA_DEVICE float exp2_approx(float x) {
#ifdef CRIA_CUDA_EMULATED
  return exp2f(x);
#else
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
#endif
}
/// 1 / x.
CRIA_DEVICE float reciprocal_approx(float x) {
#ifdef CRIA_CUDA_EMULATED
  return 1.0f / x;
#else
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
#endif
}

}  // namespace cria::cuda
