// simd.h in plain C++: the level for processors that have no vectors of ours, and the one that the others
// must equal.
#pragma once

namespace cria::portable {

struct F32x16 {
  float v[16];
};
struct F32x8 {
  float v[8];
};
struct I8x32 {
  uint8_t v[32];
};
struct I16x16 {
  int16_t v[16];
};
struct I32x8 {
  int32_t v[8];
};

CRIA_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

// ---- sixteen floats ----

#define CRIA_LANES(expression)                        \
  F32x16 out;                                         \
  for (int i = 0; i < 16; i++) out.v[i] = expression; \
  return out

CRIA_INLINE F32x16 set1(float x) { CRIA_LANES(x); }
CRIA_INLINE F32x16 load(const float* p) { CRIA_LANES(p[i]); }
CRIA_INLINE F32x16 load(const float* p, int n) { CRIA_LANES(i < n ? p[i] : 0.0f); }
CRIA_INLINE F32x16 load_f16(const uint16_t* p) { CRIA_LANES(f16_to_f32(p[i])); }
CRIA_INLINE F32x16 load_f16(const uint16_t* p, int n) { CRIA_LANES(i < n ? f16_to_f32(p[i]) : 0.0f); }
CRIA_INLINE void store(float* p, F32x16 a) {
  for (int i = 0; i < 16; i++) p[i] = a.v[i];
}
CRIA_INLINE void store(float* p, F32x16 a, int n) {
  for (int i = 0; i < n && i < 16; i++) p[i] = a.v[i];
}
/// A store that need not bring the line into the cache; `p` is aligned to 64 bytes. end_streaming() before
/// others read it.
CRIA_INLINE void stream(float* p, F32x16 a) { store(p, a); }
CRIA_INLINE void end_streaming() {}
/// p[0], p[0], p[1], p[1], ... p[7], p[7].
CRIA_INLINE F32x16 load_twice(const float* p) { CRIA_LANES(p[i / 2]); }
/// Lanes 2i and 2i + 1 change places.
CRIA_INLINE F32x16 swap_pairs(F32x16 a) { CRIA_LANES(a.v[i ^ 1]); }
CRIA_INLINE F32x16 negate_even(F32x16 a) { CRIA_LANES(i % 2 == 0 ? -a.v[i] : a.v[i]); }
CRIA_INLINE F32x16 add(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] + b.v[i]); }
CRIA_INLINE F32x16 sub(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] - b.v[i]); }
CRIA_INLINE F32x16 mul(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] * b.v[i]); }
CRIA_INLINE F32x16 div(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] / b.v[i]); }
CRIA_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { CRIA_LANES(__builtin_fmaf(a.v[i], b.v[i], c.v[i])); }
// As x86's: the second operand when either is NaN.
CRIA_INLINE F32x16 max(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
CRIA_INLINE F32x16 min(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
CRIA_INLINE F32x16 abs(F32x16 a) { CRIA_LANES(__builtin_fabsf(a.v[i])); }
CRIA_INLINE F32x16 round(F32x16 a) { CRIA_LANES(__builtin_rintf(a.v[i])); }
/// To the nearest integer, halves away from zero; exact for |a| < 2^22.
CRIA_INLINE F32x16 round_half_away(F32x16 a) { CRIA_LANES(__builtin_roundf(a.v[i])); }
CRIA_INLINE F32x16 zero_below(F32x16 x, float limit, F32x16 a) { CRIA_LANES(x.v[i] < limit ? 0.0f : a.v[i]); }
// A NaN, and what no exponent holds, is taken as 0.
CRIA_INLINE uint32_t biased_exponent(float n) {
  return static_cast<uint32_t>((n >= -127.0f && n <= 128.0f ? static_cast<int>(n) : 0) + 127);
}
CRIA_INLINE F32x16 scale_by_power_of_two(F32x16 a, F32x16 n) {
  CRIA_LANES(a.v[i] * float_from_bits(biased_exponent(n.v[i]) << 23));
}
#undef CRIA_LANES
/// The same for n of at most 0.
CRIA_INLINE F32x16 scale_down(F32x16 a, F32x16 n) { return scale_by_power_of_two(a, n); }

/// Lanes i and i+8, then i+4, i+2, i+1: the fixed tree of the contract.
CRIA_INLINE float reduce_add(F32x16 a) {
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; i++) a.v[i] = a.v[i] + a.v[i + step];
  return a.v[0];
}
CRIA_INLINE float reduce_max(F32x16 a) {
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; i++) a.v[i] = a.v[i] > a.v[i + step] ? a.v[i] : a.v[i + step];
  return a.v[0];
}
/// 32 elements of bfloat16; the lanes beyond n are zero.
struct Bf16x32 {
  uint16_t v[32];
};
CRIA_INLINE Bf16x32 load_bf16(const uint16_t* p, int n) {
  Bf16x32 out;
  for (int i = 0; i < 32; i++) out.v[i] = i < n ? p[i] : 0;
  return out;
}
/// acc + the products of pairs, the odd elements first (as vdpbf16ps).
CRIA_INLINE F32x16 dot_bf16(F32x16 acc, Bf16x32 a, Bf16x32 b) {
  for (int i = 0; i < 16; i++) {
    acc.v[i] = __builtin_fmaf(bf16_to_f32(a.v[2 * i + 1]), bf16_to_f32(b.v[2 * i + 1]), acc.v[i]);
    acc.v[i] = __builtin_fmaf(bf16_to_f32(a.v[2 * i]), bf16_to_f32(b.v[2 * i]), acc.v[i]);
  }
  return acc;
}
CRIA_INLINE void store_f16(uint16_t* p, F32x16 a, int n) {
  for (int i = 0; i < n && i < 16; i++) p[i] = f32_to_f16(a.v[i]);
}
/// int8 of lanes already rounded to integers in [-128, 127].
CRIA_INLINE void store_i8(int8_t* p, F32x16 a, int n) {
  for (int i = 0; i < n && i < 16; i++) p[i] = static_cast<int8_t>(a.v[i]);
}

// ---- eight floats: one lane per row of a tile ----

CRIA_INLINE F32x8 zero_f32x8() { return F32x8{}; }
CRIA_INLINE F32x8 set1_f32x8(float x) {
  F32x8 out;
  for (int i = 0; i < 8; i++) out.v[i] = x;
  return out;
}
CRIA_INLINE F32x8 f16_f32x8(const uint16_t* p) {
  F32x8 out;
  for (int i = 0; i < 8; i++) out.v[i] = f16_to_f32(p[i]);
  return out;
}
CRIA_INLINE F32x8 mul(F32x8 a, F32x8 b) {
  for (int i = 0; i < 8; i++) a.v[i] = a.v[i] * b.v[i];
  return a;
}
CRIA_INLINE F32x8 fma(F32x8 a, F32x8 b, F32x8 c) {
  for (int i = 0; i < 8; i++) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
CRIA_INLINE F32x8 negate(F32x8 a) {
  for (int i = 0; i < 8; i++) a.v[i] = -a.v[i];
  return a;
}
CRIA_INLINE F32x8 to_f32(I32x8 a) {
  F32x8 out;
  for (int i = 0; i < 8; i++) out.v[i] = static_cast<float>(a.v[i]);
  return out;
}
CRIA_INLINE void store(float* p, F32x8 a) {
  for (int i = 0; i < 8; i++) p[i] = a.v[i];
}

// ---- integers ----

CRIA_INLINE I8x32 load_bytes(const void* p) {
  I8x32 out;
  __builtin_memcpy(out.v, p, 32);
  return out;
}
/// 16 bytes -> 32: the low nibbles, then the high nibbles.
CRIA_INLINE I8x32 load_nibbles(const uint8_t* p) {
  I8x32 out;
  for (int i = 0; i < 16; i++) {
    out.v[i] = p[i] & 15;
    out.v[i + 16] = p[i] >> 4;
  }
  return out;
}
/// 32 bytes, each `set` where the bit of its element is one, else 0.
CRIA_INLINE I8x32 spread_bits(uint32_t bits, uint8_t set) {
  I8x32 out;
  for (int i = 0; i < 32; i++) out.v[i] = (bits >> i & 1) ? set : 0;
  return out;
}
CRIA_INLINE I8x32 set1_bytes(uint8_t x) {
  I8x32 out;
  for (int i = 0; i < 32; i++) out.v[i] = x;
  return out;
}
CRIA_INLINE I8x32 and_bytes(I8x32 a, I8x32 b) {
  for (int i = 0; i < 32; i++) a.v[i] &= b.v[i];
  return a;
}
CRIA_INLINE I8x32 or_bytes(I8x32 a, I8x32 b) {
  for (int i = 0; i < 32; i++) a.v[i] |= b.v[i];
  return a;
}
/// (byte >> n) & mask and (byte << n) & mask.
CRIA_INLINE I8x32 shift_right(I8x32 a, int n, uint8_t mask) {
  for (int i = 0; i < 32; i++) a.v[i] = static_cast<uint8_t>(a.v[i] >> n) & mask;
  return a;
}
CRIA_INLINE I8x32 shift_left(I8x32 a, int n, uint8_t mask) {
  for (int i = 0; i < 32; i++) a.v[i] = static_cast<uint8_t>(a.v[i] << n) & mask;
  return a;
}
/// table[byte] for bytes 0..15.
CRIA_INLINE I8x32 lookup(const int8_t* table16, I8x32 index) {
  for (int i = 0; i < 32; i++) index.v[i] = static_cast<uint8_t>(table16[index.v[i]]);
  return index;
}
CRIA_INLINE I32x8 zero_i32x8() { return I32x8{}; }
CRIA_INLINE I16x16 set1_i16(int16_t x) {
  I16x16 out;
  for (int i = 0; i < 16; i++) out.v[i] = x;
  return out;
}
/// Eight lanes of each: for the two groups of 16 in 32 bytes.
CRIA_INLINE I16x16 set2_i16(int16_t low, int16_t high) {
  I16x16 out;
  for (int i = 0; i < 8; i++) {
    out.v[i] = low;
    out.v[i + 8] = high;
  }
  return out;
}
CRIA_INLINE I16x16 load_i16(const int16_t* p) {
  I16x16 out;
  __builtin_memcpy(out.v, p, 32);
  return out;
}
/// Sums of two products, unsigned bytes of u by signed bytes of x; |sum| must fit 16 bits.
CRIA_INLINE I16x16 pair_products(I8x32 u, I8x32 x) {
  I16x16 out;
  for (int i = 0; i < 16; i++)
    out.v[i] = static_cast<int16_t>(u.v[2 * i] * static_cast<int8_t>(x.v[2 * i]) +
                                    u.v[2 * i + 1] * static_cast<int8_t>(x.v[2 * i + 1]));
  return out;
}
/// The same for signed bytes of w, which must not pair -128 with -128.
CRIA_INLINE I16x16 pair_products_signed(I8x32 w, I8x32 x) {
  I16x16 out;
  for (int i = 0; i < 16; i++)
    out.v[i] =
        static_cast<int16_t>(static_cast<int8_t>(w.v[2 * i]) * static_cast<int8_t>(x.v[2 * i]) +
                             static_cast<int8_t>(w.v[2 * i + 1]) * static_cast<int8_t>(x.v[2 * i + 1]));
  return out;
}
/// acc + sums of two products of int16.
CRIA_INLINE I32x8 dot(I32x8 acc, I16x16 a, I16x16 b) {
  for (int i = 0; i < 8; i++) acc.v[i] += a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1];
  return acc;
}
/// acc + sums of four products, unsigned bytes by signed bytes.
CRIA_INLINE I32x8 dot_unsigned(I32x8 acc, I8x32 u, I8x32 x) {
  return dot(acc, pair_products(u, x), set1_i16(1));
}
CRIA_INLINE I32x8 dot_signed(I32x8 acc, I8x32 w, I8x32 x) {
  return dot(acc, pair_products_signed(w, x), set1_i16(1));
}
/// acc - b * 2^n.
CRIA_INLINE I32x8 subtract_shifted(I32x8 acc, I32x8 b, int n) {
  for (int i = 0; i < 8; i++) acc.v[i] -= static_cast<int32_t>(static_cast<uint32_t>(b.v[i]) << n);
  return acc;
}
CRIA_INLINE I32x8 subtract(I32x8 a, int32_t b) {
  for (int i = 0; i < 8; i++) a.v[i] -= b;
  return a;
}
/// Lane r: the sum of the lanes of rows[r].
CRIA_INLINE I32x8 transpose_sum(const I32x8 rows[8]) {
  I32x8 out;
  for (int r = 0; r < 8; r++) {
    int32_t sum = 0;
    for (int i = 0; i < 8; i++) sum += rows[r].v[i];
    out.v[r] = sum;
  }
  return out;
}

}  // namespace cria::portable
