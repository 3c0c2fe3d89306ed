// The vector types and operations that the CPU kernels are written in, chosen by the level being compiled.
//
// Widths are fixed by the order of summation, not by the machine: its sixteen chains are sixteen float lanes,
// which AVX2 holds in two registers, AVX-512 in one, and plain C++ in an array, with the same bits.
//
//   F32x16  sixteen float lanes
//   I32x16  sixteen int32 lanes, or four bytes in each: those of sixteen rows of a matrix
//   Bytes4  four bytes, the same for every lane
//
// Arithmetic is written with operators, lane by lane. `a * b + c` is never fused (-ffp-contract=off); fma(a,
// b, c) is, and a compiler turns `a | (b & mask)` into vpternlogd where there is one. `>>` is logical.
//
// No STL, and internal linkage throughout: this header is compiled once per instruction set.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/float_bits.h"

// In plain C++, where arrays stand for vectors, forced inlining would take the compiler minutes: there it
// decides what to inline and to unroll.
#if defined(CRIA_ISA) && !defined(CRIA_ISA_portable)
#define CRIA_INLINE static inline __attribute__((always_inline))
#define CRIA_METHOD inline __attribute__((always_inline))
#define CRIA_PRAGMA(x) _Pragma(#x)
#define CRIA_UNROLL(n) CRIA_PRAGMA(GCC unroll n)
#else
#define CRIA_INLINE static inline
#define CRIA_METHOD inline
#define CRIA_UNROLL(n)
#endif

// Keeps the name of each level's functions its own: cria::avx2::rms_norm, cria::portable::rms_norm, ...
#ifndef CRIA_ISA
#define CRIA_ISA portable
#define CRIA_ISA_portable 1
#endif

#if defined(CRIA_ISA_portable)
#include "kernels/cpu/simd_portable.h"
#elif defined(__aarch64__)
#include "kernels/cpu/simd_arm.h"
#else
#include "kernels/cpu/simd_x86.h"
#endif

namespace cria::CRIA_ISA {

// ---- operators with a scalar: the same for every lane ----
//
// There is no unary minus: 0 - x and a flipped sign differ at zero, so the code says which it means.

// Inlined in plain C++ too, where the compiler would rather call them.
#define CRIA_OPERATOR static inline __attribute__((always_inline))

#define CRIA_SCALAR_OPERATOR(op)                                               \
  CRIA_OPERATOR F32x16 operator op(F32x16 a, float b) { return a op set1(b); } \
  CRIA_OPERATOR F32x16 operator op(float a, F32x16 b) { return set1(a) op b; }
CRIA_SCALAR_OPERATOR(+)
CRIA_SCALAR_OPERATOR(-)
CRIA_SCALAR_OPERATOR(*)
CRIA_SCALAR_OPERATOR(/)
#undef CRIA_SCALAR_OPERATOR

CRIA_OPERATOR I32x16 operator+(I32x16 a, int32_t b) { return a + set1(b); }
CRIA_OPERATOR I32x16 operator-(I32x16 a, int32_t b) { return a - set1(b); }
CRIA_OPERATOR I32x16 operator*(I32x16 a, int32_t b) { return a * set1(b); }

CRIA_OPERATOR void operator+=(F32x16& a, F32x16 b) { a = a + b; }
CRIA_OPERATOR void operator*=(F32x16& a, float b) { a = a * b; }
CRIA_OPERATOR void operator+=(I32x16& a, I32x16 b) { a = a + b; }
CRIA_OPERATOR void operator|=(I32x16& a, I32x16 b) { a = a | b; }

#undef CRIA_OPERATOR

// ---- elementary functions ----

/// e^(x - n ln 2) for |x - n ln 2| <= ln 2 / 2.
CRIA_INLINE F32x16 exp_reduced(F32x16 x, F32x16 n) {
  F32x16 r = fma(n, set1(-0.693145752f), x);  // ln 2 in two parts, the first exact in products with n
  r = fma(n, set1(-1.42860677e-6f), r);
  F32x16 p = set1(1.38888889e-3f);
  p = fma(p, r, set1(8.33333333e-3f));
  p = fma(p, r, set1(4.16666667e-2f));
  p = fma(p, r, set1(1.66666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  return fma(p, r, set1(1.0f));
}

/// e^x, 0 below -87.3 and infinite above 88.37: degree-6 polynomial after Cody-Waite reduction, about 1 ulp;
/// NaN stays NaN.
CRIA_INLINE F32x16 exp(F32x16 x) {
  const F32x16 clamped = min(set1(89.0f), max(set1(-87.3f), x));  // in this order a NaN passes
  const F32x16 n = round(clamped * 1.44269504f);
  return zero_below(x, -87.3f, scale_by_power_of_two(exp_reduced(clamped, n), n));
}

/// exp() for x of at most 0 or NaN: the same bits, in fewer steps.
CRIA_INLINE F32x16 exp_nonpositive(F32x16 x) {
  const F32x16 clamped = max(set1(-87.3f), x);
  const F32x16 n = round(clamped * 1.44269504f);
  return zero_below(x, -87.3f, scale_down(exp_reduced(clamped, n), n));
}

/// x / (1 + e^-x).
CRIA_INLINE F32x16 silu(F32x16 x) { return x / (1.0f + exp(0.0f - x)); }

}  // namespace cria::CRIA_ISA
