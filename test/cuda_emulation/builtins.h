// The vector types and built-in functions of CUDA C++ that kernels may use (device.cuh lists them).
#pragma once

// ---- vector types ----

#define CRIA_VECTOR_TYPES(T, name, bytes)                    \
  struct alignas(2 * bytes) name##2 { T x, y; };             \
  struct alignas(4 * bytes) name##4 { T x, y, z, w; };       \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CRIA_VECTOR_TYPES(float, float, 4)
CRIA_VECTOR_TYPES(int, int, 4)
CRIA_VECTOR_TYPES(unsigned, uint, 4)
CRIA_VECTOR_TYPES(short, short, 2)
CRIA_VECTOR_TYPES(unsigned short, ushort, 2)
CRIA_VECTOR_TYPES(signed char, char, 1)
CRIA_VECTOR_TYPES(unsigned char, uchar, 1)
#undef CRIA_VECTOR_TYPES
struct alignas(16) longlong2 {
  long long x, y;
};
struct alignas(16) ulonglong2 {
  unsigned long long x, y;
};
struct alignas(16) double2 {
  double x, y;
};

// ---- barriers, votes and fences ----

inline void __syncthreads() { cria::cuda::emulation::sync_block(cria::cuda::emulation::Vote::none, 0); }
inline int __syncthreads_or(int p) {
  return cria::cuda::emulation::sync_block(cria::cuda::emulation::Vote::any, p);
}
inline int __syncthreads_and(int p) {
  return cria::cuda::emulation::sync_block(cria::cuda::emulation::Vote::all, p);
}
inline int __syncthreads_count(int p) {
  return cria::cuda::emulation::sync_block(cria::cuda::emulation::Vote::count, p);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { cria::cuda::emulation::sync_warp(mask); }
inline void __threadfence_block() { cria::cuda::emulation::fence(cria::cuda::emulation::Scope::block); }
inline void __threadfence() { cria::cuda::emulation::fence(cria::cuda::emulation::Scope::device); }
inline void __threadfence_system() { cria::cuda::emulation::fence(cria::cuda::emulation::Scope::system); }
inline void __nanosleep(unsigned) { cria::cuda::emulation::yield(); }

namespace cria::cuda::emulation {

template <class T>
CRIA_NO_RACE_CHECK T shuffle_value(uint32_t mask, T value, int source, int width, const char* operation) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take 4 or 8 bytes");
  ShuffleLane lane{0, source, width};
  memcpy(&lane.value, &value, sizeof value);
  shuffle(mask, &lane, operation);
  memcpy(&value, &lane.value, sizeof value);
  return value;
}

uint32_t ballot(uint32_t mask, int predicate, const char* operation);
uint32_t match_any(uint32_t mask, uint64_t value);
uint32_t match_all(uint32_t mask, uint64_t value, int* predicate);
enum class Reduction { add, min, max, bit_and, bit_or, bit_xor };
uint32_t reduce_unsigned(uint32_t mask, uint32_t value, Reduction operation);
int32_t reduce_signed(uint32_t mask, int32_t value, Reduction operation);
/// Over the whole warp, by the tree of lanes i and i ^ 16, then 8, 4, 2, 1.
float reduce_float(float value, Reduction operation);

template <class T>
uint64_t value_bits(T value) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}

/// One atomic read-modify-write; returns the value before.
template <class T, class Change>
CRIA_NO_RACE_CHECK T atomic_change(T* address, Change change) {
  atomic_access(address, sizeof(T), true);
  const T before = *address;
  *address = change(before);
  return before;
}

}  // namespace cria::cuda::emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = cria::cuda::emulation::lane_of_warp();
  return cria::cuda::emulation::shuffle_value(mask, value, (lane & ~(width - 1)) | (source & (width - 1)),
                                              width, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const int lane = cria::cuda::emulation::lane_of_warp(), source = lane ^ lanes;
  return cria::cuda::emulation::shuffle_value(
      mask, value, source >= (lane & ~(width - 1)) + width ? lane : source, width, "__shfl_xor_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32) {
  const int lane = cria::cuda::emulation::lane_of_warp(), source = lane - static_cast<int>(lanes);
  return cria::cuda::emulation::shuffle_value(mask, value, source < (lane & ~(width - 1)) ? lane : source,
                                              width, "__shfl_up_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32) {
  const int lane = cria::cuda::emulation::lane_of_warp(), source = lane + static_cast<int>(lanes);
  return cria::cuda::emulation::shuffle_value(
      mask, value, source >= (lane & ~(width - 1)) + width ? lane : source, width, "__shfl_down_sync");
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  return cria::cuda::emulation::ballot(mask, p, "__ballot_sync");
}
inline int __any_sync(unsigned mask, int p) {
  return cria::cuda::emulation::ballot(mask, p, "__any_sync") != 0;
}
inline int __all_sync(unsigned mask, int p) {
  return cria::cuda::emulation::ballot(mask, p, "__all_sync") == mask;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  return cria::cuda::emulation::match_any(mask, cria::cuda::emulation::value_bits(value));
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate) {
  return cria::cuda::emulation::match_all(mask, cria::cuda::emulation::value_bits(value), predicate);
}

// ---- atomics ----

#define CRIA_ATOMIC(name, expression)                                                                 \
  template <class T>                                                                                  \
  T name(T* address, std::type_identity_t<T> value) {                                                 \
    return cria::cuda::emulation::atomic_change(address, [value](T old) -> T { return expression; }); \
  }
CRIA_ATOMIC(atomicAdd, static_cast<T>(old + value))
CRIA_ATOMIC(atomicSub, static_cast<T>(old - value))
CRIA_ATOMIC(atomicExch, ((void)old, value))
CRIA_ATOMIC(atomicMin, value < old ? value : old)
CRIA_ATOMIC(atomicMax, old < value ? value : old)
CRIA_ATOMIC(atomicAnd, static_cast<T>(old& value))
CRIA_ATOMIC(atomicOr, static_cast<T>(old | value))
CRIA_ATOMIC(atomicXor, static_cast<T>(old ^ value))
CRIA_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CRIA_ATOMIC
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return cria::cuda::emulation::atomic_change(
      address, [compare, value](T old) { return old == compare ? value : old; });
}

// ---- arithmetic ----

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
inline unsigned __brev(unsigned x) {
  unsigned out = 0;
  for (int i = 0; i < 32; i++) out |= (x >> i & 1u) << (31 - i);
  return out;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; i++)
    out |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return out;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(__builtin_rintf(x)); }

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
