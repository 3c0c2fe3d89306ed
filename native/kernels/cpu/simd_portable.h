// simd.h in plain C++: the level for processors that have no vectors of ours, and the one that the others
// must equal.
#pragma once

namespace cria::portable {

struct F32x16 {
  float v[16];
};
struct I32x16 {
  int32_t v[16];
};
struct Bytes4 {
  int8_t v[4];
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
/// A store that need not bring the line into the cache; `p` is aligned to 64 bytes. stream_fence() before
/// others read it.
CRIA_INLINE void stream(float* p, F32x16 a) { store(p, a); }
CRIA_INLINE void stream_fence() {}
/// p[0], p[0], p[1], p[1], ... p[7], p[7].
CRIA_INLINE F32x16 load_twice(const float* p) { CRIA_LANES(p[i / 2]); }
/// Lanes 2i and 2i + 1 change places.
CRIA_INLINE F32x16 swap_pairs(F32x16 a) { CRIA_LANES(a.v[i ^ 1]); }
CRIA_INLINE F32x16 negate_even(F32x16 a) { CRIA_LANES(i % 2 == 0 ? -a.v[i] : a.v[i]); }
CRIA_INLINE F32x16 operator+(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] + b.v[i]); }
CRIA_INLINE F32x16 operator-(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] - b.v[i]); }
CRIA_INLINE F32x16 operator*(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] * b.v[i]); }
CRIA_INLINE F32x16 operator/(F32x16 a, F32x16 b) { CRIA_LANES(a.v[i] / b.v[i]); }
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

// ---- sixteen int32, one for each of sixteen rows, or four bytes of each ----

#define CRIA_INTEGERS(expression)                     \
  I32x16 out;                                         \
  for (int i = 0; i < 16; i++) out.v[i] = expression; \
  return out

/// Aligned to 64 bytes.
CRIA_INLINE I32x16 load_i32(const void* p) {
  I32x16 out;
  __builtin_memcpy(out.v, p, 64);
  return out;
}
CRIA_INLINE I32x16 load_i32_unaligned(const void* p) { return load_i32(p); }
CRIA_INLINE void store(void* p, I32x16 a) { __builtin_memcpy(p, a.v, 64); }
CRIA_INLINE I32x16 set1(int32_t x) { CRIA_INTEGERS(x); }
CRIA_INLINE I32x16 load_i16(const int16_t* p) { CRIA_INTEGERS(p[i]); }
/// Sums of neighbours among 16 words; each fits a word.
CRIA_INLINE void add_pairs(const int16_t* words, int16_t sums[8]) {
  for (int i = 0; i < 8; i++) sums[i] = static_cast<int16_t>(words[2 * i] + words[2 * i + 1]);
}
/// Of sixteen bytes of at least -127: their sum, and that of their magnitudes.
struct SumsOf16 {
  int16_t sum, magnitudes;
};
CRIA_INLINE SumsOf16 sums_of_16(const int8_t* q) {
  SumsOf16 of{0, 0};
  for (int i = 0; i < 16; i++) {
    of.sum = static_cast<int16_t>(of.sum + q[i]);
    of.magnitudes = static_cast<int16_t>(of.magnitudes + (q[i] < 0 ? -q[i] : q[i]));
  }
  return of;
}
CRIA_INLINE I32x16 operator&(I32x16 a, uint32_t mask) { CRIA_INTEGERS(a.v[i] & static_cast<int32_t>(mask)); }
CRIA_INLINE I32x16 operator|(I32x16 a, I32x16 b) { CRIA_INTEGERS(a.v[i] | b.v[i]); }
/// Logical: zeros come in from the left, since lanes are bit patterns. shift_right_signed() keeps the sign.
CRIA_INLINE I32x16 operator>>(I32x16 a, int n) {
  CRIA_INTEGERS(static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n));
}
CRIA_INLINE I32x16 operator<<(I32x16 a, int n) {
  CRIA_INTEGERS(static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n));
}
CRIA_INLINE I32x16 shift_right_signed(I32x16 a, int n) { CRIA_INTEGERS(a.v[i] >> n); }
/// The low word of each lane of a, the high word of b.
CRIA_INLINE I32x16 blend_high_words(I32x16 a, I32x16 b) {
  CRIA_INTEGERS(static_cast<int32_t>((static_cast<uint32_t>(a.v[i]) & 0xffffu) |
                                     (static_cast<uint32_t>(b.v[i]) & 0xffff0000u)));
}
/// Of the two words of each lane.
CRIA_INLINE I32x16 shift_right_signed_words(I32x16 a, int n) {
  CRIA_INTEGERS(static_cast<int32_t>(static_cast<uint32_t>(a.v[i] >> 16 >> n) << 16 |
                                     static_cast<uint16_t>(static_cast<int16_t>(a.v[i]) >> n)));
}
CRIA_INLINE I32x16 operator^(I32x16 a, uint32_t mask) { CRIA_INTEGERS(a.v[i] ^ static_cast<int32_t>(mask)); }
CRIA_INLINE I32x16 operator+(I32x16 a, I32x16 b) { CRIA_INTEGERS(a.v[i] + b.v[i]); }
CRIA_INLINE I32x16 operator-(I32x16 a, I32x16 b) { CRIA_INTEGERS(a.v[i] - b.v[i]); }
CRIA_INLINE I32x16 operator*(I32x16 a, I32x16 b) { CRIA_INTEGERS(a.v[i] * b.v[i]); }
/// The lanes' bits as floats, and back.
CRIA_INLINE F32x16 as_f32(I32x16 a) {
  F32x16 out;
  __builtin_memcpy(out.v, a.v, 64);
  return out;
}
CRIA_INLINE I32x16 as_i32(F32x16 a) {
  I32x16 out;
  __builtin_memcpy(out.v, a.v, 64);
  return out;
}
CRIA_INLINE F32x16 to_f32(I32x16 a) { CRIA_LANES(static_cast<float>(a.v[i])); }
/// The low sixteen bits of each lane, a half.
CRIA_INLINE F32x16 low_f16(I32x16 a) { CRIA_LANES(f16_to_f32(static_cast<uint16_t>(a.v[i]))); }
/// table[byte] for each byte, all of them 0..15; the table is aligned to 16 bytes.
CRIA_INLINE I32x16 lookup(const int8_t* table16, I32x16 index) {
  uint8_t bytes[64];
  __builtin_memcpy(bytes, index.v, 64);
  for (int i = 0; i < 64; i++) bytes[i] = static_cast<uint8_t>(table16[bytes[i]]);
  __builtin_memcpy(index.v, bytes, 64);
  return index;
}
CRIA_INLINE Bytes4 broadcast4(const int8_t* p) {
  Bytes4 out;
  __builtin_memcpy(out.v, p, 4);
  return out;
}
/// acc + sums of two products of int16, the same `pair` for every lane.
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 a, int32_t pair) {
  CRIA_INTEGERS(acc.v[i] + static_cast<int16_t>(a.v[i]) * static_cast<int16_t>(pair) +
                (a.v[i] >> 16) * (pair >> 16));
}
CRIA_INLINE I32x16 dot_i16(I32x16 acc, I32x16 a, I32x16 b) {
  CRIA_INTEGERS(acc.v[i] + static_cast<int16_t>(a.v[i]) * static_cast<int16_t>(b.v[i]) +
                (a.v[i] >> 16) * (b.v[i] >> 16));
}
/// Keeps a value in a register, or the compiler may load it again.
CRIA_INLINE void pin(I32x16&) {}

/// Whether dot_bytes() takes all eight bits of unsigned bytes; else bytes of at most 127.
constexpr bool kWholeBytes = true;
/// Whether dot_i16() of two groups' sums and scales costs less than two multiplications and additions.
constexpr bool kPairsOfSums = false;
/// Bias that signed_bytes() adds to each byte, for the caller to compensate.
constexpr int kSignedOffset = 0;
/// The largest tile of a matrix product: halves of a panel's 32 rows, and halves times tokens.
constexpr int kTileHalves = 1, kTileSums = 2;
/// Signed bytes of weights in the form that dot_signed takes.
CRIA_INLINE I32x16 signed_bytes(I32x16 w) { return w; }
/// acc + sums of four products, unsigned bytes of w by signed bytes of x.
CRIA_INLINE I32x16 dot_bytes(I32x16 acc, I32x16 w, Bytes4 x) {
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 4; k++)
      acc.v[i] += static_cast<uint8_t>(static_cast<uint32_t>(w.v[i]) >> (8 * k)) * x.v[k];
  return acc;
}
/// The same for signed bytes of w, from signed_bytes(); x is never -128.
CRIA_INLINE I32x16 dot_signed(I32x16 acc, I32x16 w, Bytes4 x) {
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 4; k++)
      acc.v[i] += static_cast<int8_t>(static_cast<uint32_t>(w.v[i]) >> (8 * k)) * x.v[k];
  return acc;
}

#undef CRIA_INTEGERS
#undef CRIA_LANES

}  // namespace cria::portable
