#include "cuda_emulation/ptx_twins.h"

#include <cstring>

#include "core/float_bits.h"
#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/grid.h"

namespace cria::cuda::emulation {

// ---- arithmetic of one thread ----

std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t out = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    // The product of two halves is exact in double. So is the sum, unless one addend is far smaller; rounding
    // to odd keeps that one visible.
    const double product = static_cast<double>(f16_to_f32(static_cast<std::uint16_t>(a >> shift))) *
                           static_cast<double>(f16_to_f32(static_cast<std::uint16_t>(b >> shift)));
    const double addend = static_cast<double>(f16_to_f32(static_cast<std::uint16_t>(c >> shift)));
    const double sum = product + addend;
    float rounded = static_cast<float>(sum);
    const double lost = sum - static_cast<double>(rounded);
    // Double rounding is wrong only when the first rounding hides on which side of a tie the sum lies.
    if (lost != 0 && lost == lost) {
      std::uint32_t bits = float_bits(rounded);
      if ((lost > 0) != (rounded > 0)) bits--;  // towards zero
      rounded = float_from_bits(bits | 1);      // then to odd
    }
    out |= static_cast<std::uint32_t>(f32_to_f16(rounded)) << shift;
  }
  return out;
}

std::int32_t dp4a(std::uint32_t a, std::uint32_t b, std::int32_t c, bool a_signed) {
  auto sum = static_cast<std::uint32_t>(c);
  for (int i = 0; i < 32; i += 8) {
    const int left = a_signed ? static_cast<std::int8_t>(a >> i) : static_cast<std::uint8_t>(a >> i);
    sum += static_cast<std::uint32_t>(left * static_cast<std::int8_t>(b >> i));
  }
  return static_cast<std::int32_t>(sum);
}

// ---- memory ----

void check_aligned(const void* p, std::size_t alignment, const char* operation) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignment)
    fault("%s: an address that is not aligned to %zu bytes", operation, alignment);
}

void prefetch(const void* p, std::size_t bytes) {
  if (bytes && !in_device_memory(p, bytes)) fault("prefetch: %zu bytes that no allocation holds", bytes);
}

std::uint32_t load_acquire(const std::uint32_t* p) {
  yield();  // kernels poll with such loads
  atomic_access(p, 4, false);
  race::acquire(*current, p);
  return *p;
}

void store_release(std::uint32_t* p, std::uint32_t value) {
  atomic_access(p, 4, true);
  race::release(*current, p);
  *p = value;
}

std::uint32_t add_acquire_release(std::uint32_t* p, std::uint32_t value) {
  atomic_access(p, 4, true);
  race::release(*current, p);
  race::acquire(*current, p);
  const std::uint32_t before = *p;
  *p = before + value;
  return before;
}

// ---- matrices ----

namespace {

struct LoadLane {
  std::uint32_t* out;
  const void* row;
  int matrices;
  bool transposed;
};

void load_matrices(void* const lanes[32], std::uint32_t) {
  const auto& first = *static_cast<LoadLane*>(lanes[0]);
  for (int m = 0; m < first.matrices; m++) {
    std::uint16_t rows[8][8];
    for (int r = 0; r < 8; r++) {
      const void* row = static_cast<LoadLane*>(lanes[m * 8 + r])->row;
      std::memcpy(rows[r], row, 16);
    }
    for (int l = 0; l < 32; l++) {
      const auto& lane = *static_cast<LoadLane*>(lanes[l]);
      const int i = l / 4, j = l % 4 * 2;
      const std::uint16_t low = first.transposed ? rows[j][i] : rows[i][j];
      const std::uint16_t high = first.transposed ? rows[j + 1][i] : rows[i][j + 1];
      lane.out[m] = static_cast<std::uint32_t>(high) << 16 | low;
    }
  }
}

template <class Element>
struct MmaLane {
  Element* c;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

float element(std::uint32_t pair, int half, bool bf16) {
  const auto bits = static_cast<std::uint16_t>(pair >> 16 * half);
  return bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

template <bool kBf16>
void multiply_16x8x16(void* const lanes[32], std::uint32_t) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; l++) {
    const auto& lane = *static_cast<MmaLane<float>*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; i++)
      for (int h = 0; h < 2; h++) a[g + i % 2 * 8][2 * t + i / 2 * 8 + h] = element(lane.a[i], h, kBf16);
    for (int i = 0; i < 2; i++)
      for (int h = 0; h < 2; h++) b[2 * t + i * 8 + h][g] = element(lane.b[i], h, kBf16);
  }
  double sums[16][8] = {};
  for (int r = 0; r < 16; r++)
    for (int k = 0; k < 16; k++)
      for (int n = 0; n < 8; n++) sums[r][n] += static_cast<double>(a[r][k]) * static_cast<double>(b[k][n]);
  for (int l = 0; l < 32; l++) {
    const auto& lane = *static_cast<MmaLane<float>*>(lanes[l]);
    for (int i = 0; i < 4; i++)
      lane.c[i] =
          static_cast<float>(static_cast<double>(lane.c[i]) + sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
  }
}

void multiply_16x8x32(void* const lanes[32], std::uint32_t) {
  std::int32_t a[16][32], b[32][8], sums[16][8] = {};
  for (int l = 0; l < 32; l++) {
    const auto& lane = *static_cast<MmaLane<std::int32_t>*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; i++)
      for (int k = 0; k < 4; k++)
        a[g + i % 2 * 8][4 * t + i / 2 * 16 + k] = static_cast<std::int8_t>(lane.a[i] >> 8 * k);
    for (int i = 0; i < 2; i++)
      for (int k = 0; k < 4; k++) b[4 * t + i * 16 + k][g] = static_cast<std::int8_t>(lane.b[i] >> 8 * k);
  }
  for (int r = 0; r < 16; r++)
    for (int k = 0; k < 32; k++)
      for (int n = 0; n < 8; n++) sums[r][n] += a[r][k] * b[k][n];
  for (int l = 0; l < 32; l++) {
    const auto& lane = *static_cast<MmaLane<std::int32_t>*>(lanes[l]);
    for (int i = 0; i < 4; i++) {
      const auto sum = static_cast<std::uint32_t>(sums[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
      lane.c[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(lane.c[i]) + sum);
    }
  }
}

constexpr std::uint32_t kAllLanes = 0xffffffffu;

}  // namespace

void load_matrix(std::uint32_t* out, int matrices, const void* row, bool transposed) {
  if (static_cast<int>(current->lane()) < matrices * 8) {  // other lanes' addresses are ignored
    check_aligned(row, 16, "ldmatrix");
    check_shared_range(row, 16, "ldmatrix");
    race::access(*current, row, 16, false);
  }
  constexpr const char* kNames[2][3] = {{"ldmatrix.x1", "ldmatrix.x2", "ldmatrix.x4"},
                                        {"ldmatrix.x1.trans", "ldmatrix.x2.trans", "ldmatrix.x4.trans"}};
  LoadLane lane{out, row, matrices, transposed};
  warp_collective(kAllLanes, kNames[transposed][matrices / 2], &lane, load_matrices);
}

void mma_16x8x16(float* c, const std::uint32_t* a, const std::uint32_t* b, bool bf16) {
  MmaLane<float> lane{c, a, b};
  if (bf16)
    warp_collective(kAllLanes, "mma.m16n8k16.bf16", &lane, multiply_16x8x16<true>);
  else
    warp_collective(kAllLanes, "mma.m16n8k16.f16", &lane, multiply_16x8x16<false>);
}

void mma_16x8x32(std::int32_t* c, const std::uint32_t* a, const std::uint32_t* b) {
  MmaLane<std::int32_t> lane{c, a, b};
  warp_collective(kAllLanes, "mma.m16n8k32.s8", &lane, multiply_16x8x32);
}

}  // namespace cria::cuda::emulation
