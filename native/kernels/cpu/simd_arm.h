// simd.h on 64-bit ARM: NEON, then dotprod (Armv8.2 sdot) and i8mm (Armv8.6 usdot) where the level has them.
//
// Two instructions are not used although they would serve: bfdot and bfmmla flush subnormals and round to odd
// in between, so BF16 products would not have the bits of simd_portable.h.
//
// Unsigned bytes of weights are at most 63 (six bits, Q6_K): NEON and sdot read them as signed bytes, and
// four products with int8 fit sixteen bits (63 * 4 * 128 = 32256).
#pragma once

#include <arm_neon.h>

namespace cria::CRIA_ISA {

#if defined(CRIA_ISA_neon_dotprod) || defined(CRIA_ISA_neon_i8mm)
#define CRIA_ARM_DOTPROD 1
#endif

// Named members: gcc keeps small arrays of vectors in memory more often than not.
struct F32x16 {
  float32x4_t a, b, c, d;
};
struct F32x8 {
  float32x4_t a, b;
};
struct I8x32 {
  uint8x16_t a, b;
};
struct I32x8 {
  int32x4_t a, b;
};

CRIA_INLINE void prefetch(const void* p) {
  asm volatile("prfm pldl1keep, %0" ::"Q"(*static_cast<const char*>(p)));
}

// ---- sixteen floats ----

#define CRIA_EACH1(f, x) {f(x.a), f(x.b), f(x.c), f(x.d)}
#define CRIA_EACH2(f, x, y) {f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)}
#define CRIA_EACH3(f, x, y, z) {f(x.a, y.a, z.a), f(x.b, y.b, z.b), f(x.c, y.c, z.c), f(x.d, y.d, z.d)}

CRIA_INLINE float32x4_t max4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
CRIA_INLINE float32x4_t min4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }

CRIA_INLINE F32x16 set1(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
CRIA_INLINE F32x16 load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
CRIA_INLINE F32x16 load(const float* p, int n) {
  if (n >= 16) return load(p);
  float buffer[16] = {};
  __builtin_memcpy(buffer, p, sizeof(float) * static_cast<size_t>(n));
  return load(buffer);
}
CRIA_INLINE F32x16 load_f16(const uint16_t* p) {
  const float16x8_t x = vreinterpretq_f16_u16(vld1q_u16(p)), y = vreinterpretq_f16_u16(vld1q_u16(p + 8));
  return {vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x), vcvt_f32_f16(vget_low_f16(y)),
          vcvt_high_f32_f16(y)};
}
CRIA_INLINE F32x16 load_f16(const uint16_t* p, int n) {
  if (n >= 16) return load_f16(p);
  uint16_t buffer[16] = {};
  __builtin_memcpy(buffer, p, sizeof(uint16_t) * static_cast<size_t>(n));
  return load_f16(buffer);
}
CRIA_INLINE void store(float* p, F32x16 x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
CRIA_INLINE void store(float* p, F32x16 x, int n) {
  if (n >= 16) return store(p, x);
  float buffer[16];
  store(buffer, x);
  __builtin_memcpy(p, buffer, sizeof(float) * static_cast<size_t>(n));
}
CRIA_INLINE void stream(float* p, F32x16 x) { store(p, x); }
CRIA_INLINE void end_streaming() {}
CRIA_INLINE F32x16 load_twice(const float* p) {
  const float32x4_t x = vld1q_f32(p), y = vld1q_f32(p + 4);
  return {vzip1q_f32(x, x), vzip2q_f32(x, x), vzip1q_f32(y, y), vzip2q_f32(y, y)};
}
CRIA_INLINE F32x16 swap_pairs(F32x16 x) { return CRIA_EACH1(vrev64q_f32, x); }
CRIA_INLINE float32x4_t negate_even4(float32x4_t x) {
  const uint32x4_t sign = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000ull));
  return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), sign));
}
CRIA_INLINE F32x16 negate_even(F32x16 x) { return CRIA_EACH1(negate_even4, x); }
CRIA_INLINE F32x16 add(F32x16 x, F32x16 y) { return CRIA_EACH2(vaddq_f32, x, y); }
CRIA_INLINE F32x16 sub(F32x16 x, F32x16 y) { return CRIA_EACH2(vsubq_f32, x, y); }
CRIA_INLINE F32x16 mul(F32x16 x, F32x16 y) { return CRIA_EACH2(vmulq_f32, x, y); }
CRIA_INLINE F32x16 div(F32x16 x, F32x16 y) { return CRIA_EACH2(vdivq_f32, x, y); }
CRIA_INLINE F32x16 fma(F32x16 x, F32x16 y, F32x16 z) { return CRIA_EACH3(vfmaq_f32, z, x, y); }
// A comparison and a choice: fmax and fmin would give NaN where x86 gives the second operand.
CRIA_INLINE F32x16 max(F32x16 x, F32x16 y) { return CRIA_EACH2(max4, x, y); }
CRIA_INLINE F32x16 min(F32x16 x, F32x16 y) { return CRIA_EACH2(min4, x, y); }
CRIA_INLINE F32x16 abs(F32x16 x) { return CRIA_EACH1(vabsq_f32, x); }
CRIA_INLINE F32x16 round(F32x16 x) { return CRIA_EACH1(vrndnq_f32, x); }
CRIA_INLINE F32x16 round_half_away(F32x16 x) { return CRIA_EACH1(vrndaq_f32, x); }
CRIA_INLINE float32x4_t zero_where_less(float32x4_t x, float32x4_t limit, float32x4_t y) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, limit)));
}
CRIA_INLINE F32x16 zero_below(F32x16 x, float limit, F32x16 y) {
  return CRIA_EACH3(zero_where_less, x, set1(limit), y);
}
CRIA_INLINE float32x4_t times_power_of_two(float32x4_t x, float32x4_t n) {
  const int32x4_t e = vcvtq_s32_f32(n) + vdupq_n_s32(127);  // NaN becomes 0
  return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(e, 23)));
}
CRIA_INLINE F32x16 scale_by_power_of_two(F32x16 x, F32x16 n) { return CRIA_EACH2(times_power_of_two, x, n); }
CRIA_INLINE float reduce_add(F32x16 x) {
  const float32x4_t s4 = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
  return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
CRIA_INLINE F32x16 scale_down(F32x16 a, F32x16 n) { return scale_by_power_of_two(a, n); }
CRIA_INLINE float reduce_max(F32x16 x) {
  const float32x4_t m4 = max4(max4(x.a, x.c), max4(x.b, x.d));
  const float32x4_t m2 = max4(m4, vextq_f32(m4, m4, 2));
  return vgetq_lane_f32(max4(m2, vextq_f32(m2, m2, 1)), 0);
}

// 32 elements of bfloat16, widened, odd and even ones apart.
struct Bf16x32 {
  F32x16 odd, even;
};
CRIA_INLINE float32x4_t upper_halves(const uint16_t* p) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u16(vld1q_u16(p)), vdupq_n_u32(0xffff0000u)));
}
CRIA_INLINE float32x4_t lower_halves(const uint16_t* p) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p)), 16));
}
CRIA_INLINE Bf16x32 load_bf16(const uint16_t* p, int n) {
  uint16_t buffer[32];
  if (n < 32) {
    __builtin_memset(buffer, 0, sizeof buffer);
    __builtin_memcpy(buffer, p, sizeof(uint16_t) * static_cast<size_t>(n));
    p = buffer;
  }
  return {{upper_halves(p), upper_halves(p + 8), upper_halves(p + 16), upper_halves(p + 24)},
          {lower_halves(p), lower_halves(p + 8), lower_halves(p + 16), lower_halves(p + 24)}};
}
CRIA_INLINE F32x16 dot_bf16(F32x16 acc, const Bf16x32& x, const Bf16x32& y) {
  return fma(x.even, y.even, fma(x.odd, y.odd, acc));
}
CRIA_INLINE void store_f16(uint16_t* p, F32x16 x, int n) {
  const uint16x8_t low = vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b));
  const uint16x8_t high = vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d));
  uint16_t buffer[16];
  uint16_t* to = n >= 16 ? p : buffer;
  vst1q_u16(to, low);
  vst1q_u16(to + 8, high);
  if (n < 16) __builtin_memcpy(p, buffer, sizeof(uint16_t) * static_cast<size_t>(n));
}
CRIA_INLINE int16x8_t low_words(float32x4_t x, float32x4_t y) {
  return vuzp1q_s16(vreinterpretq_s16_s32(vcvtq_s32_f32(x)), vreinterpretq_s16_s32(vcvtq_s32_f32(y)));
}
CRIA_INLINE void store_i8(int8_t* p, F32x16 x, int n) {
  const int8x16_t bytes =
      vuzp1q_s8(vreinterpretq_s8_s16(low_words(x.a, x.b)), vreinterpretq_s8_s16(low_words(x.c, x.d)));
  if (n >= 16) return vst1q_s8(p, bytes);
  int8_t buffer[16];
  vst1q_s8(buffer, bytes);
  __builtin_memcpy(p, buffer, static_cast<size_t>(n));
}

#undef CRIA_EACH1
#undef CRIA_EACH2
#undef CRIA_EACH3

// ---- eight floats ----

CRIA_INLINE F32x8 zero_f32x8() { return {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)}; }
CRIA_INLINE F32x8 set1_f32x8(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
CRIA_INLINE F32x8 f16_f32x8(const uint16_t* p) {
  const float16x8_t x = vreinterpretq_f16_u16(vld1q_u16(p));
  return {vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)};
}
CRIA_INLINE F32x8 mul(F32x8 x, F32x8 y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)}; }
CRIA_INLINE F32x8 fma(F32x8 x, F32x8 y, F32x8 z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)};
}
CRIA_INLINE F32x8 negate(F32x8 x) { return {vnegq_f32(x.a), vnegq_f32(x.b)}; }
CRIA_INLINE F32x8 to_f32(I32x8 x) { return {vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b)}; }
CRIA_INLINE void store(float* p, F32x8 x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
}

// ---- bytes ----

CRIA_INLINE I8x32 load_bytes(const void* p) {
  const uint8_t* bytes = static_cast<const uint8_t*>(p);
  return {vld1q_u8(bytes), vld1q_u8(bytes + 16)};
}
CRIA_INLINE I8x32 load_nibbles(const uint8_t* p) {
  const uint8x16_t x = vld1q_u8(p);
  return {vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8(x, 4)};
}
CRIA_INLINE I8x32 spread_bits(uint32_t bits, uint8_t set) {
  const uint8x16_t from = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
  const uint8x16_t one = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  const uint8x16_t word = vreinterpretq_u8_u32(vdupq_n_u32(bits));
  const uint8x16_t low = vqtbl1q_u8(word, from), high = vqtbl1q_u8(word, vaddq_u8(from, vdupq_n_u8(2)));
  return {vandq_u8(vtstq_u8(low, one), vdupq_n_u8(set)), vandq_u8(vtstq_u8(high, one), vdupq_n_u8(set))};
}
CRIA_INLINE I8x32 set1_bytes(uint8_t x) { return {vdupq_n_u8(x), vdupq_n_u8(x)}; }
CRIA_INLINE I8x32 and_bytes(I8x32 x, I8x32 y) { return {vandq_u8(x.a, y.a), vandq_u8(x.b, y.b)}; }
CRIA_INLINE I8x32 or_bytes(I8x32 x, I8x32 y) { return {vorrq_u8(x.a, y.a), vorrq_u8(x.b, y.b)}; }
// Shifts as operators: n is a constant wherever these are inlined, and becomes one instruction's immediate.
// Bytes shift apart from each other, so a mask that only guards against neighbours is not needed.
CRIA_INLINE I8x32 shift_right(I8x32 x, int n, uint8_t mask) {
  const uint8_t count = static_cast<uint8_t>(n);
  const I8x32 shifted = {x.a >> count, x.b >> count};
  return (0xff >> n & ~mask) == 0 ? shifted : and_bytes(shifted, set1_bytes(mask));
}
CRIA_INLINE I8x32 shift_left(I8x32 x, int n, uint8_t mask) {
  const uint8_t count = static_cast<uint8_t>(n);
  return and_bytes({x.a << count, x.b << count}, set1_bytes(mask));
}
CRIA_INLINE I8x32 lookup(const int8_t* table16, I8x32 index) {
  const uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(table16));
  return {vqtbl1q_u8(table, index.a), vqtbl1q_u8(table, index.b)};
}

// ---- integers ----
//
// Sums are exact, so lanes may be grouped as an instruction likes: of the sixteen of an I16x16 the first
// eight belong to the first sixteen bytes, which is what a scale per group of sixteen needs, and of an I32x8
// only the total counts until transpose_sum.

CRIA_INLINE int8x16_t as_signed(uint8x16_t x) { return vreinterpretq_s8_u8(x); }
CRIA_INLINE I32x8 zero_i32x8() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }

#if defined(CRIA_ARM_DOTPROD)

// In 32 bits a lane, since sdot gives those: the four sums of sixteen bytes, then four lanes of zeros, which
// the compiler folds away together with what they are multiplied by.
struct I16x16 {
  int32x4_t a, b, c, d;
};

CRIA_INLINE I16x16 set2_i16(int16_t low, int16_t high) {
  const int32x4_t l = vdupq_n_s32(low), h = vdupq_n_s32(high);
  return {l, l, h, h};
}
CRIA_INLINE I16x16 set1_i16(int16_t x) { return set2_i16(x, x); }
CRIA_INLINE I16x16 load_i16(const int16_t* p) {
  const int16x8_t x = vld1q_s16(p), y = vld1q_s16(p + 8);
  return {vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x), vmovl_s16(vget_low_s16(y)), vmovl_high_s16(y)};
}
CRIA_INLINE I32x8 dot(I32x8 acc, I16x16 x, I16x16 y) {
  return {acc.a + x.a * y.a + x.c * y.c, acc.b + x.b * y.b + x.d * y.d};
}

CRIA_INLINE int32x4_t dot16_signed(int32x4_t acc, uint8x16_t w, uint8x16_t x) {
  return vdotq_s32(acc, as_signed(w), as_signed(x));
}
#if defined(CRIA_ISA_neon_i8mm)
CRIA_INLINE int32x4_t dot16_unsigned(int32x4_t acc, uint8x16_t u, uint8x16_t x) {
  return vusdotq_s32(acc, u, as_signed(x));
}
#else
CRIA_INLINE int32x4_t dot16_unsigned(int32x4_t acc, uint8x16_t u, uint8x16_t x) {
  return dot16_signed(acc, u, x);
}
#endif

CRIA_INLINE I16x16 pair_products(I8x32 u, I8x32 x) {
  const int32x4_t zero = vdupq_n_s32(0);
  return {dot16_unsigned(zero, u.a, x.a), zero, dot16_unsigned(zero, u.b, x.b), zero};
}
CRIA_INLINE I16x16 pair_products_signed(I8x32 w, I8x32 x) {
  const int32x4_t zero = vdupq_n_s32(0);
  return {dot16_signed(zero, w.a, x.a), zero, dot16_signed(zero, w.b, x.b), zero};
}
CRIA_INLINE I32x8 dot_unsigned(I32x8 acc, I8x32 u, I8x32 x) {
  return {dot16_unsigned(dot16_unsigned(acc.a, u.a, x.a), u.b, x.b), acc.b};
}
CRIA_INLINE I32x8 dot_signed(I32x8 acc, I8x32 w, I8x32 x) {
  return {dot16_signed(dot16_signed(acc.a, w.a, x.a), w.b, x.b), acc.b};
}

#else

struct I16x16 {
  int16x8_t a, b;
};

CRIA_INLINE I16x16 set2_i16(int16_t low, int16_t high) { return {vdupq_n_s16(low), vdupq_n_s16(high)}; }
CRIA_INLINE I16x16 set1_i16(int16_t x) { return set2_i16(x, x); }
CRIA_INLINE I16x16 load_i16(const int16_t* p) { return {vld1q_s16(p), vld1q_s16(p + 8)}; }
CRIA_INLINE I32x8 dot(I32x8 acc, I16x16 x, I16x16 y) {
  const int32x4_t a = vmlal_s16(acc.a, vget_low_s16(x.a), vget_low_s16(y.a));
  const int32x4_t b = vmlal_high_s16(acc.b, x.a, y.a);
  return {vmlal_s16(a, vget_low_s16(x.b), vget_low_s16(y.b)), vmlal_high_s16(b, x.b, y.b)};
}

// acc + the products of bytes i and i + 8.
CRIA_INLINE int16x8_t add_products(int16x8_t acc, uint8x16_t w, uint8x16_t x) {
  const int16x8_t first = vmlal_s8(acc, vget_low_s8(as_signed(w)), vget_low_s8(as_signed(x)));
  return vmlal_high_s8(first, as_signed(w), as_signed(x));
}
CRIA_INLINE int16x8_t products(uint8x16_t w, uint8x16_t x) {
  const int16x8_t first = vmull_s8(vget_low_s8(as_signed(w)), vget_low_s8(as_signed(x)));
  return vmlal_high_s8(first, as_signed(w), as_signed(x));
}
CRIA_INLINE I16x16 pair_products_signed(I8x32 w, I8x32 x) { return {products(w.a, x.a), products(w.b, x.b)}; }
CRIA_INLINE I16x16 pair_products(I8x32 u, I8x32 x) { return pair_products_signed(u, x); }
CRIA_INLINE I32x8 dot_unsigned(I32x8 acc, I8x32 u, I8x32 x) {
  return {vpadalq_s16(acc.a, add_products(products(u.a, x.a), u.b, x.b)), acc.b};
}
CRIA_INLINE I32x8 dot_signed(I32x8 acc, I8x32 w, I8x32 x) {
  return {vpadalq_s16(vpadalq_s16(acc.a, products(w.a, x.a)), products(w.b, x.b)), acc.b};
}

#endif

CRIA_INLINE I32x8 subtract_shifted(I32x8 acc, I32x8 x, int n) {
  return {acc.a - (x.a << n), acc.b - (x.b << n)};
}
CRIA_INLINE I32x8 subtract(I32x8 x, int32_t y) { return {x.a - vdupq_n_s32(y), x.b - vdupq_n_s32(y)}; }
CRIA_INLINE int32x4_t sums_of_4(const I32x8 rows[4]) {
  const int32x4_t r01 = vpaddq_s32(rows[0].a + rows[0].b, rows[1].a + rows[1].b);
  const int32x4_t r23 = vpaddq_s32(rows[2].a + rows[2].b, rows[3].a + rows[3].b);
  return vpaddq_s32(r01, r23);
}
CRIA_INLINE I32x8 transpose_sum(const I32x8 rows[8]) { return {sums_of_4(rows), sums_of_4(rows + 4)}; }

}  // namespace cria::CRIA_ISA
