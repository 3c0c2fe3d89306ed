// simd.h on 64-bit ARM: NEON, then dotprod (Armv8.2 sdot) and i8mm (Armv8.6 usdot) where the level has them.
//
// Two instructions are not used although they would serve: bfdot and bfmmla flush subnormals and round to odd
// in between, so BF16 products would not have the bits of simd_portable.h.
//
// Unsigned bytes of weights are at most 63 (six bits, Q6_K), so NEON and sdot read them as signed bytes.
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
struct I32x16 {
  int32x4_t a, b, c, d;
};
struct Bytes4 {
  int8x16_t v;
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
CRIA_INLINE void stream_fence() {}
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
CRIA_INLINE F32x16 operator+(F32x16 x, F32x16 y) { return CRIA_EACH2(vaddq_f32, x, y); }
CRIA_INLINE F32x16 operator-(F32x16 x, F32x16 y) { return CRIA_EACH2(vsubq_f32, x, y); }
CRIA_INLINE F32x16 operator*(F32x16 x, F32x16 y) { return CRIA_EACH2(vmulq_f32, x, y); }
CRIA_INLINE F32x16 operator/(F32x16 x, F32x16 y) { return CRIA_EACH2(vdivq_f32, x, y); }
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

// ---- sixteen int32, one for each of sixteen rows, or four bytes of each ----
//
// Shifts and masks as operators: they become the vector instructions, with immediates where n is a constant.

CRIA_INLINE I32x16 load_i32(const void* p) {
  const int32_t* v = static_cast<const int32_t*>(p);
  return {vld1q_s32(v), vld1q_s32(v + 4), vld1q_s32(v + 8), vld1q_s32(v + 12)};
}
CRIA_INLINE I32x16 load_i32_unaligned(const void* p) {
  const uint8_t* v = static_cast<const uint8_t*>(p);
  return {vreinterpretq_s32_u8(vld1q_u8(v)), vreinterpretq_s32_u8(vld1q_u8(v + 16)),
          vreinterpretq_s32_u8(vld1q_u8(v + 32)), vreinterpretq_s32_u8(vld1q_u8(v + 48))};
}
CRIA_INLINE void store(void* p, I32x16 x) {
  int32_t* v = static_cast<int32_t*>(p);
  vst1q_s32(v, x.a);
  vst1q_s32(v + 4, x.b);
  vst1q_s32(v + 8, x.c);
  vst1q_s32(v + 12, x.d);
}
CRIA_INLINE I32x16 set1(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {v, v, v, v};
}
CRIA_INLINE I32x16 load_i16(const int16_t* p) {
  const int16x8_t x = vld1q_s16(p), y = vld1q_s16(p + 8);
  return {vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x), vmovl_s16(vget_low_s16(y)), vmovl_high_s16(y)};
}
CRIA_INLINE void add_pairs(const int16_t* words, int16_t sums[8]) {
  vst1q_s16(sums, vpaddq_s16(vld1q_s16(words), vld1q_s16(words + 8)));
}
struct SumsOf16 {
  int16_t sum, magnitudes;
};
CRIA_INLINE SumsOf16 sums_of_16(const int8_t* q) {
  const int8x16_t v = vld1q_s8(q);
  return {vaddlvq_s8(v), static_cast<int16_t>(vaddlvq_u8(vreinterpretq_u8_s8(vabsq_s8(v))))};
}
CRIA_INLINE I32x16 operator&(I32x16 x, uint32_t mask) {
  const int32x4_t m = vdupq_n_s32(static_cast<int32_t>(mask));
  return {x.a & m, x.b & m, x.c & m, x.d & m};
}
CRIA_INLINE I32x16 operator|(I32x16 x, I32x16 y) { return {x.a | y.a, x.b | y.b, x.c | y.c, x.d | y.d}; }
CRIA_INLINE int32x4_t shift_right4(int32x4_t x, int n) {
  return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) >> static_cast<uint32_t>(n));
}
CRIA_INLINE I32x16 operator>>(I32x16 x, int n) {
  return {shift_right4(x.a, n), shift_right4(x.b, n), shift_right4(x.c, n), shift_right4(x.d, n)};
}
CRIA_INLINE I32x16 blend_high_words(I32x16 x, I32x16 y) {
  const uint32x4_t high = vdupq_n_u32(0xffff0000u);
  return {vbslq_s32(high, y.a, x.a), vbslq_s32(high, y.b, x.b), vbslq_s32(high, y.c, x.c),
          vbslq_s32(high, y.d, x.d)};
}
CRIA_INLINE I32x16 operator<<(I32x16 x, int n) { return {x.a << n, x.b << n, x.c << n, x.d << n}; }
CRIA_INLINE I32x16 shift_right_signed(I32x16 x, int n) { return {x.a >> n, x.b >> n, x.c >> n, x.d >> n}; }
CRIA_INLINE int32x4_t shift_right_signed_words4(int32x4_t x, int n) {
  return vreinterpretq_s32_s16(vreinterpretq_s16_s32(x) >> static_cast<int16_t>(n));
}
CRIA_INLINE I32x16 shift_right_signed_words(I32x16 x, int n) {
  return {shift_right_signed_words4(x.a, n), shift_right_signed_words4(x.b, n),
          shift_right_signed_words4(x.c, n), shift_right_signed_words4(x.d, n)};
}
CRIA_INLINE I32x16 operator^(I32x16 x, uint32_t mask) {
  const int32x4_t m = vdupq_n_s32(static_cast<int32_t>(mask));
  return {x.a ^ m, x.b ^ m, x.c ^ m, x.d ^ m};
}
CRIA_INLINE I32x16 operator+(I32x16 x, I32x16 y) { return CRIA_EACH2(vaddq_s32, x, y); }
CRIA_INLINE I32x16 operator-(I32x16 x, I32x16 y) { return CRIA_EACH2(vsubq_s32, x, y); }
CRIA_INLINE I32x16 operator*(I32x16 x, I32x16 y) { return CRIA_EACH2(vmulq_s32, x, y); }
CRIA_INLINE F32x16 as_f32(I32x16 x) { return CRIA_EACH1(vreinterpretq_f32_s32, x); }
CRIA_INLINE I32x16 as_i32(F32x16 x) { return CRIA_EACH1(vreinterpretq_s32_f32, x); }
CRIA_INLINE F32x16 to_f32(I32x16 x) { return CRIA_EACH1(vcvtq_f32_s32, x); }
CRIA_INLINE float32x4_t low_f16x4(int32x4_t x) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(x))));
}
CRIA_INLINE F32x16 low_f16(I32x16 x) { return CRIA_EACH1(low_f16x4, x); }
CRIA_INLINE int32x4_t lookup4(int8x16_t table, int32x4_t index) {
  return vreinterpretq_s32_s8(vqtbl1q_s8(table, vreinterpretq_u8_s32(index)));
}
CRIA_INLINE I32x16 lookup(const int8_t* table16, I32x16 index) {
  const int8x16_t t = vld1q_s8(table16);
  return {lookup4(t, index.a), lookup4(t, index.b), lookup4(t, index.c), lookup4(t, index.d)};
}
CRIA_INLINE Bytes4 broadcast4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {vreinterpretq_s8_s32(vdupq_n_s32(four))};
}
CRIA_INLINE int32x4_t dot_i16x4(int32x4_t acc, int32x4_t x, int16x8_t pair) {
  const int16x8_t w = vreinterpretq_s16_s32(x);
  return vaddq_s32(acc, vpaddq_s32(vmull_s16(vget_low_s16(w), vget_low_s16(pair)), vmull_high_s16(w, pair)));
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 x, int32_t pair) {
  const int16x8_t p = vreinterpretq_s16_s32(vdupq_n_s32(pair));
  return {dot_i16x4(acc.a, x.a, p), dot_i16x4(acc.b, x.b, p), dot_i16x4(acc.c, x.c, p),
          dot_i16x4(acc.d, x.d, p)};
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 x, I32x16 y) {
  return {
      dot_i16x4(acc.a, x.a, vreinterpretq_s16_s32(y.a)), dot_i16x4(acc.b, x.b, vreinterpretq_s16_s32(y.b)),
      dot_i16x4(acc.c, x.c, vreinterpretq_s16_s32(y.c)), dot_i16x4(acc.d, x.d, vreinterpretq_s16_s32(y.d))};
}
CRIA_INLINE void pin(I32x16& x) { asm("" : "+w"(x.a), "+w"(x.b), "+w"(x.c), "+w"(x.d)); }

constexpr bool kWholeBytes = false;  // weights are read as signed bytes
constexpr bool kPairsOfSums = false;
constexpr int kSignedOffset = 0;
constexpr int kTileHalves = 1, kTileSums = 4;
CRIA_INLINE I32x16 signed_bytes(I32x16 w) { return w; }
#if defined(CRIA_ARM_DOTPROD)
CRIA_INLINE int32x4_t dot4(int32x4_t acc, int32x4_t w, int8x16_t x) {
  return vdotq_s32(acc, vreinterpretq_s8_s32(w), x);
}
#else
// Products of two bytes add up in sixteen bits: 2 * 128 * 127 fits.
CRIA_INLINE int32x4_t dot4(int32x4_t acc, int32x4_t w, int8x16_t x) {
  const int8x16_t bytes = vreinterpretq_s8_s32(w);
  const int16x8_t low = vmull_s8(vget_low_s8(bytes), vget_low_s8(x)), high = vmull_high_s8(bytes, x);
  return vpadalq_s16(acc, vpaddq_s16(low, high));
}
#endif
CRIA_INLINE I32x16 dot_bytes(I32x16 acc, I32x16 w, Bytes4 x) {
  return {dot4(acc.a, w.a, x.v), dot4(acc.b, w.b, x.v), dot4(acc.c, w.c, x.v), dot4(acc.d, w.d, x.v)};
}
CRIA_INLINE I32x16 dot_signed(I32x16 acc, I32x16 w, Bytes4 x) { return dot_bytes(acc, w, x); }

#undef CRIA_EACH1
#undef CRIA_EACH2
#undef CRIA_EACH3

}  // namespace cria::CRIA_ISA
