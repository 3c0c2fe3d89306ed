// simd.h on x86-64: AVX2 with FMA and F16C, then AVX-VNNI, AVX-512 VNNI and AVX-512 BF16 where the level has
// them.
#pragma once

#include <immintrin.h>

namespace cria::CRIA_ISA {

#if defined(CRIA_ISA_avx512_vnni) || defined(CRIA_ISA_avx512_bf16)
#define CRIA_WIDE 1  // 512-bit registers
#endif

// Into L2, not L1, whose few miss buffers the far fetches would hold (docs/performance.md).
// asm, because gcc gathers _mm_prefetch at the head of an unrolled body, where they queue up.
CRIA_INLINE void prefetch(const void* p) {
  asm volatile("prefetcht1 %0" ::"m"(*static_cast<const char*>(p)));
}

// ---- sixteen floats ----

#if defined(CRIA_WIDE)

struct F32x16 {
  __m512 v;
};
CRIA_INLINE __mmask16 first_lanes(int n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1u); }
CRIA_INLINE F32x16 set1(float x) { return {_mm512_set1_ps(x)}; }
CRIA_INLINE F32x16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
CRIA_INLINE F32x16 load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
CRIA_INLINE F32x16 load_f16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
CRIA_INLINE F32x16 load_f16(const uint16_t* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
}
CRIA_INLINE void store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
CRIA_INLINE void store(float* p, F32x16 a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
CRIA_INLINE void stream(float* p, F32x16 a) { _mm512_stream_ps(p, a.v); }
CRIA_INLINE F32x16 load_twice(const float* p) {
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return {_mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)))};
}
CRIA_INLINE F32x16 swap_pairs(F32x16 a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
CRIA_INLINE F32x16 negate_even(F32x16 a) {
  return {_mm512_xor_ps(a.v, _mm512_castsi512_ps(_mm512_set1_epi64(0x80000000ll)))};
}
CRIA_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
CRIA_INLINE F32x16 max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
CRIA_INLINE F32x16 abs(F32x16 a) { return {_mm512_abs_ps(a.v)}; }
CRIA_INLINE F32x16 round(F32x16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// Adds the float before 0.5 away from zero and truncates: what falls on a half rounds up in the sum.
CRIA_INLINE F32x16 round_half_away(F32x16 a) {
  const __m512 half = _mm512_or_ps(_mm512_and_ps(a.v, _mm512_set1_ps(-0.0f)), _mm512_set1_ps(0.49999997f));
  return {_mm512_roundscale_ps(_mm512_add_ps(a.v, half), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)};
}
CRIA_INLINE F32x16 zero_below(F32x16 x, float limit, F32x16 a) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_NLT_UQ), a.v)};
}
CRIA_INLINE F32x16 scale_by_power_of_two(F32x16 a, F32x16 n) {
  // A NaN becomes 0x80000000, whose bit the shift drops: times 1.
  const __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_mul_ps(a.v, _mm512_castsi512_ps(_mm512_slli_epi32(e, 23)))};
}
CRIA_INLINE F32x16 scale_down(F32x16 a, F32x16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
CRIA_INLINE __m256 low_half(F32x16 a) { return _mm512_castps512_ps256(a.v); }
CRIA_INLINE __m256 high_half(F32x16 a) { return _mm512_extractf32x8_ps(a.v, 1); }
CRIA_INLINE void store_f16(uint16_t* p, F32x16 a, int n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
CRIA_INLINE void store_i8(int8_t* p, F32x16 a, int n) {
  _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

#else

struct F32x16 {
  __m256 a, b;
};
CRIA_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CRIA_INLINE F32x16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
CRIA_INLINE F32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
CRIA_INLINE F32x16 load(const float* p, int n) {
  return {_mm256_maskload_ps(p, first_lanes(n)), _mm256_maskload_ps(p + 8, first_lanes(n - 8))};
}
CRIA_INLINE F32x16 load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
CRIA_INLINE F32x16 load_f16(const uint16_t* p, int n) {
  uint16_t buffer[16] = {};
  __builtin_memcpy(buffer, p, sizeof(uint16_t) * static_cast<size_t>(n < 16 ? n : 16));
  return load_f16(buffer);
}
CRIA_INLINE void store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
CRIA_INLINE void store(float* p, F32x16 x, int n) {
  _mm256_maskstore_ps(p, first_lanes(n), x.a);
  _mm256_maskstore_ps(p + 8, first_lanes(n - 8), x.b);
}
CRIA_INLINE void stream(float* p, F32x16 x) {
  _mm256_stream_ps(p, x.a);
  _mm256_stream_ps(p + 8, x.b);
}
CRIA_INLINE F32x16 load_twice(const float* p) {
  const __m256 v = _mm256_loadu_ps(p);
  return {_mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
          _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
CRIA_INLINE F32x16 swap_pairs(F32x16 x) {
  return {_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)};
}
CRIA_INLINE F32x16 negate_even(F32x16 x) {
  const __m256 sign = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000ll));
  return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
}
CRIA_INLINE F32x16 operator+(F32x16 x, F32x16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
CRIA_INLINE F32x16 operator-(F32x16 x, F32x16 y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
CRIA_INLINE F32x16 operator*(F32x16 x, F32x16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
CRIA_INLINE F32x16 operator/(F32x16 x, F32x16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
CRIA_INLINE F32x16 fma(F32x16 x, F32x16 y, F32x16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
CRIA_INLINE F32x16 max(F32x16 x, F32x16 y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
CRIA_INLINE F32x16 min(F32x16 x, F32x16 y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
CRIA_INLINE F32x16 abs(F32x16 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
CRIA_INLINE F32x16 round(F32x16 x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, kNearest), _mm256_round_ps(x.b, kNearest)};
}
CRIA_INLINE __m256 half_away(__m256 x) {
  const __m256 half = _mm256_or_ps(_mm256_and_ps(x, _mm256_set1_ps(-0.0f)), _mm256_set1_ps(0.49999997f));
  return _mm256_round_ps(_mm256_add_ps(x, half), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
// Adds the float before 0.5 away from zero and truncates: what falls on a half rounds up in the sum.
CRIA_INLINE F32x16 round_half_away(F32x16 x) { return {half_away(x.a), half_away(x.b)}; }
CRIA_INLINE F32x16 zero_below(F32x16 x, float limit, F32x16 y) {
  const __m256 l = _mm256_set1_ps(limit);
  return {_mm256_and_ps(_mm256_cmp_ps(x.a, l, _CMP_NLT_UQ), y.a),
          _mm256_and_ps(_mm256_cmp_ps(x.b, l, _CMP_NLT_UQ), y.b)};
}
CRIA_INLINE __m256 times_power_of_two(__m256 x, __m256 n) {
  // A NaN becomes 0x80000000, whose bit the shift drops: times 1.
  const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}
CRIA_INLINE F32x16 scale_by_power_of_two(F32x16 x, F32x16 n) {
  return {times_power_of_two(x.a, n.a), times_power_of_two(x.b, n.b)};
}
CRIA_INLINE F32x16 scale_down(F32x16 x, F32x16 n) { return scale_by_power_of_two(x, n); }
CRIA_INLINE __m256 low_half(F32x16 x) { return x.a; }
CRIA_INLINE __m256 high_half(F32x16 x) { return x.b; }
CRIA_INLINE void store_f16(uint16_t* p, F32x16 x, int n) {
  uint16_t buffer[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(buffer), _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(buffer + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
  __builtin_memcpy(p, buffer, sizeof(uint16_t) * static_cast<size_t>(n < 16 ? n : 16));
}
CRIA_INLINE void store_i8(int8_t* p, F32x16 x, int n) {
  int32_t wide[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(wide), _mm256_cvtps_epi32(x.a));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(wide + 8), _mm256_cvtps_epi32(x.b));
  for (int i = 0; i < n && i < 16; i++) p[i] = static_cast<int8_t>(wide[i]);
}

#endif

// Orders streamed stores before what other threads do after they hear of them.
CRIA_INLINE void stream_fence() { _mm_sfence(); }

CRIA_INLINE float reduce_add(F32x16 x) {
  const __m256 s8 = _mm256_add_ps(low_half(x), high_half(x));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
CRIA_INLINE float reduce_max(F32x16 x) {
  const __m256 s8 = _mm256_max_ps(low_half(x), high_half(x));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_movehdup_ps(s2)));
}

// 32 elements of bfloat16: as they are where vdpbf16ps takes them, else widened, odd and even ones apart.
#if defined(CRIA_WIDE)
CRIA_INLINE __m512i load_words(const uint16_t* p, int n) {
  return n >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((1u << n) - 1u, p);
}
#endif
#if defined(CRIA_ISA_avx512_bf16)
struct Bf16x32 {
  __m512i v;
};
CRIA_INLINE Bf16x32 load_bf16(const uint16_t* p, int n) { return {load_words(p, n)}; }
CRIA_INLINE F32x16 dot_bf16(F32x16 acc, Bf16x32 a, Bf16x32 b) {
  return {_mm512_dpbf16_ps(acc.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}
#else
struct Bf16x32 {
  F32x16 odd, even;
};
#if defined(CRIA_WIDE)
CRIA_INLINE Bf16x32 load_bf16(const uint16_t* p, int n) {
  const __m512i x = load_words(p, n);
  return {{_mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))},
          {_mm512_castsi512_ps(_mm512_slli_epi32(x, 16))}};
}
#else
CRIA_INLINE Bf16x32 load_bf16(const uint16_t* p, int n) {
  uint16_t buffer[32] = {};
  if (n < 32) {
    __builtin_memcpy(buffer, p, sizeof(uint16_t) * static_cast<size_t>(n));
    p = buffer;
  }
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16));
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {{_mm256_castsi256_ps(_mm256_and_si256(x, high)), _mm256_castsi256_ps(_mm256_and_si256(y, high))},
          {_mm256_castsi256_ps(_mm256_slli_epi32(x, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(y, 16))}};
}
#endif
CRIA_INLINE F32x16 dot_bf16(F32x16 acc, const Bf16x32& a, const Bf16x32& b) {
  return fma(a.even, b.even, fma(a.odd, b.odd, acc));
}
#endif

CRIA_INLINE void add_pairs(const int16_t* words, int16_t sums[8]) {
  const auto* v = reinterpret_cast<const __m128i*>(words);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sums),
                   _mm_hadd_epi16(_mm_loadu_si128(v), _mm_loadu_si128(v + 1)));
}

struct SumsOf16 {
  int16_t sum, magnitudes;
};
CRIA_INLINE int16_t sum_bytes(__m128i v) {
  const __m128i halves = _mm_sad_epu8(v, _mm_setzero_si128());
  return static_cast<int16_t>(_mm_cvtsi128_si32(halves) + _mm_extract_epi16(halves, 4));
}
CRIA_INLINE SumsOf16 sums_of_16(const int8_t* q) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  const int16_t of_unsigned = sum_bytes(_mm_xor_si128(v, _mm_set1_epi8(static_cast<char>(0x80))));
  return {static_cast<int16_t>(of_unsigned - 16 * 128), sum_bytes(_mm_abs_epi8(v))};
}

// ---- sixteen int32, one for each of sixteen rows, or four bytes of each ----

constexpr bool kPairsOfSums = true;

#if defined(CRIA_WIDE)

struct I32x16 {
  __m512i v;
};
struct Bytes4 {
  __m512i v;
};
CRIA_INLINE I32x16 load_i32(const void* p) { return {_mm512_load_si512(p)}; }
CRIA_INLINE I32x16 load_i32_unaligned(const void* p) { return {_mm512_loadu_si512(p)}; }
CRIA_INLINE void store(void* p, I32x16 a) { _mm512_store_si512(p, a.v); }
CRIA_INLINE I32x16 set1(int32_t x) { return {_mm512_set1_epi32(x)}; }
CRIA_INLINE I32x16 load_i16(const int16_t* p) {
  return {_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
CRIA_INLINE I32x16 operator&(I32x16 a, uint32_t mask) {
  return {_mm512_and_si512(a.v, _mm512_set1_epi32(static_cast<int32_t>(mask)))};
}
CRIA_INLINE I32x16 operator|(I32x16 a, I32x16 b) { return {_mm512_or_si512(a.v, b.v)}; }
CRIA_INLINE I32x16 operator>>(I32x16 a, int n) { return {_mm512_srli_epi32(a.v, static_cast<unsigned>(n))}; }
CRIA_INLINE I32x16 blend_high_words(I32x16 a, I32x16 b) {
  return {_mm512_mask_blend_epi16(0xaaaaaaaau, a.v, b.v)};
}
CRIA_INLINE I32x16 operator<<(I32x16 a, int n) { return {_mm512_slli_epi32(a.v, static_cast<unsigned>(n))}; }
CRIA_INLINE I32x16 shift_right_signed(I32x16 a, int n) {
  return {_mm512_srai_epi32(a.v, static_cast<unsigned>(n))};
}
CRIA_INLINE I32x16 shift_right_signed_words(I32x16 a, int n) {
  return {_mm512_srai_epi16(a.v, static_cast<unsigned>(n))};
}
CRIA_INLINE I32x16 operator^(I32x16 a, uint32_t mask) {
  return {_mm512_xor_si512(a.v, _mm512_set1_epi32(static_cast<int32_t>(mask)))};
}
CRIA_INLINE I32x16 operator+(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
CRIA_INLINE I32x16 operator-(I32x16 a, I32x16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
CRIA_INLINE I32x16 operator*(I32x16 a, I32x16 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
CRIA_INLINE F32x16 as_f32(I32x16 a) { return {_mm512_castsi512_ps(a.v)}; }
CRIA_INLINE I32x16 as_i32(F32x16 a) { return {_mm512_castps_si512(a.v)}; }
CRIA_INLINE F32x16 to_f32(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
CRIA_INLINE F32x16 low_f16(I32x16 a) { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(a.v))}; }
CRIA_INLINE I32x16 lookup(const int8_t* table16, I32x16 index) {
  const __m128i t = _mm_load_si128(reinterpret_cast<const __m128i*>(table16));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), index.v)};
}
CRIA_INLINE Bytes4 broadcast4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {_mm512_set1_epi32(four)};
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 a, int32_t pair) {
  return {_mm512_dpwssd_epi32(acc.v, a.v, _mm512_set1_epi32(pair))};
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 a, I32x16 b) { return {_mm512_dpwssd_epi32(acc.v, a.v, b.v)}; }
CRIA_INLINE void pin(I32x16& a) { asm("" : "+v"(a.v)); }

#else

struct I32x16 {
  __m256i a, b;
};
struct Bytes4 {
  __m256i v;
};
CRIA_INLINE I32x16 load_i32(const void* p) {
  const auto* v = static_cast<const __m256i*>(p);
  return {_mm256_load_si256(v), _mm256_load_si256(v + 1)};
}
CRIA_INLINE I32x16 load_i32_unaligned(const void* p) {
  const auto* v = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
CRIA_INLINE void store(void* p, I32x16 x) {
  auto* v = static_cast<__m256i*>(p);
  _mm256_store_si256(v, x.a);
  _mm256_store_si256(v + 1, x.b);
}
CRIA_INLINE I32x16 set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
CRIA_INLINE I32x16 load_i16(const int16_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepi16_epi32(_mm_loadu_si128(v)), _mm256_cvtepi16_epi32(_mm_loadu_si128(v + 1))};
}
CRIA_INLINE I32x16 operator&(I32x16 x, uint32_t mask) {
  const __m256i m = _mm256_set1_epi32(static_cast<int32_t>(mask));
  return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}
CRIA_INLINE I32x16 operator|(I32x16 x, I32x16 y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
CRIA_INLINE I32x16 operator>>(I32x16 x, int n) {
  return {_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)};
}
CRIA_INLINE I32x16 blend_high_words(I32x16 x, I32x16 y) {
  return {_mm256_blend_epi16(x.a, y.a, 0xaa), _mm256_blend_epi16(x.b, y.b, 0xaa)};
}
CRIA_INLINE I32x16 operator<<(I32x16 x, int n) {
  return {_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
}
CRIA_INLINE I32x16 shift_right_signed(I32x16 x, int n) {
  return {_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)};
}
CRIA_INLINE I32x16 shift_right_signed_words(I32x16 x, int n) {
  return {_mm256_srai_epi16(x.a, n), _mm256_srai_epi16(x.b, n)};
}
CRIA_INLINE I32x16 operator^(I32x16 x, uint32_t mask) {
  const __m256i m = _mm256_set1_epi32(static_cast<int32_t>(mask));
  return {_mm256_xor_si256(x.a, m), _mm256_xor_si256(x.b, m)};
}
CRIA_INLINE I32x16 operator+(I32x16 x, I32x16 y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
CRIA_INLINE I32x16 operator-(I32x16 x, I32x16 y) {
  return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
CRIA_INLINE I32x16 operator*(I32x16 x, I32x16 y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
CRIA_INLINE F32x16 as_f32(I32x16 x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
CRIA_INLINE I32x16 as_i32(F32x16 x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
CRIA_INLINE F32x16 to_f32(I32x16 x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
CRIA_INLINE __m256 f16_of_dwords(__m256i dwords) {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(dwords), _mm256_extracti128_si256(dwords, 1));
  return _mm256_cvtph_ps(words);
}
CRIA_INLINE F32x16 low_f16(I32x16 x) {
  const I32x16 low = x & 0xffff;
  return {f16_of_dwords(low.a), f16_of_dwords(low.b)};
}
CRIA_INLINE I32x16 lookup(const int8_t* table16, I32x16 index) {
  const __m256i t = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table16)));
  return {_mm256_shuffle_epi8(t, index.a), _mm256_shuffle_epi8(t, index.b)};
}
CRIA_INLINE Bytes4 broadcast4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return {_mm256_set1_epi32(four)};
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 x, int32_t pair) {
  const __m256i p = _mm256_set1_epi32(pair);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x.a, p)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(x.b, p))};
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 x, I32x16 y) {
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x.a, y.a)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(x.b, y.b))};
}
CRIA_INLINE void pin(I32x16& x) { asm("" : "+x"(x.a), "+x"(x.b)); }

#endif

#if defined(CRIA_ISA_avx2)

// Products of two bytes add up in sixteen bits, those of four in thirty-two.
constexpr bool kWholeBytes = false;
constexpr int kSignedOffset = 0;
constexpr int kTileHalves = 1, kTileSums = 4;
CRIA_INLINE I32x16 signed_bytes(I32x16 w) { return w; }
CRIA_INLINE __m256i dot_bytes(__m256i acc, __m256i w, __m256i x) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
CRIA_INLINE I32x16 dot_bytes(I32x16 acc, I32x16 w, Bytes4 x) {
  return {dot_bytes(acc.a, w.a, x.v), dot_bytes(acc.b, w.b, x.v)};
}
CRIA_INLINE I32x16 dot_signed(I32x16 acc, I32x16 w, Bytes4 x) {
  return {dot_bytes(acc.a, _mm256_sign_epi8(w.a, w.a), _mm256_sign_epi8(x.v, w.a)),
          dot_bytes(acc.b, _mm256_sign_epi8(w.b, w.b), _mm256_sign_epi8(x.v, w.b))};
}

#else

// vpdpbusd wants unsigned bytes of weights and takes all of them: signed ones get their signs flipped, which
// adds 128.
constexpr bool kWholeBytes = true;
constexpr int kSignedOffset = 128;
#if defined(CRIA_WIDE)
constexpr int kTileHalves = 2, kTileSums = 12;
CRIA_INLINE I32x16 signed_bytes(I32x16 w) {
  return {_mm512_xor_si512(w.v, _mm512_set1_epi8(static_cast<char>(0x80)))};
}
CRIA_INLINE I32x16 dot_bytes(I32x16 acc, I32x16 w, Bytes4 x) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, x.v)};
}
#else
constexpr int kTileHalves = 1, kTileSums = 4;
CRIA_INLINE I32x16 signed_bytes(I32x16 w) {
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80));
  return {_mm256_xor_si256(w.a, flip), _mm256_xor_si256(w.b, flip)};
}
CRIA_INLINE I32x16 dot_bytes(I32x16 acc, I32x16 w, Bytes4 x) {
  return {_mm256_dpbusd_avx_epi32(acc.a, w.a, x.v), _mm256_dpbusd_avx_epi32(acc.b, w.b, x.v)};
}
#endif
CRIA_INLINE I32x16 dot_signed(I32x16 acc, I32x16 w, Bytes4 x) { return dot_bytes(acc, w, x); }

#endif

}  // namespace cria::CRIA_ISA
