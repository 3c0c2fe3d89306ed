// How the registers of a packed chunk become operands of mma: shared by the products of few tokens (weights
// from global memory) and of many (from shared memory).
//
// Quants are unpacked to signed bytes times 2^kShift: the bits of Q4_0 and Q6_K stay at the top of their
// bytes, which saves extending the sign. A sum is divided by 2^kShift exactly, by a shift.
#pragma once

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/matmul_weights.cuh"

namespace cria::cuda {

enum class Step {
  scaled,      // acc = fma(d * dx, S, acc)
  scaled_min,  // the same, then fma(m, weighted, acc)
  inner,       // acc = fma(dx, fma(-dmin, M, d * S), acc)
  halves,      // acc = fma(dx, fma(d1, S1, d0 * S0), acc), of the two sixteens of a block
  plain,       // acc = acc + S
};

template <WeightForm kForm>
struct Format {
  static constexpr WeightLayout kLayout = weight_layout(kForm);
  static constexpr ActivationForm kActivations = form_of_activations(kForm);
  static constexpr bool kFloat = kForm == WeightForm::f16 || kForm == WeightForm::bf16;
  static constexpr bool kBlocks32 = kActivations == ActivationForm::q8_0;
  static constexpr bool kBlocks256 = kActivations == ActivationForm::q8_k;
  static constexpr bool kNibbles = has_nibbles(kForm), kCodes = has_codes(kForm);
  static constexpr bool kHasMins =
      kForm == WeightForm::k4 || kForm == WeightForm::k5 || kForm == WeightForm::k8_min;
  /// Scales of six bits, of 32 columns each.
  static constexpr bool kSixBits = kForm == WeightForm::k4 || kForm == WeightForm::k5;
  static constexpr int kShift = kForm == WeightForm::q4 ? 4 : kForm == WeightForm::k6 ? 2 : 0;
  /// Loads of 16 bytes for a pair's quants.
  static constexpr int kPairLoads = kNibbles ? 1 : 2;
  static constexpr int kHighLoads = kForm == WeightForm::k5 ? 1 : kForm == WeightForm::k6 ? 2 : 0;
  static constexpr int kActivationBytes = activation_chunk_bytes(kActivations);
  static constexpr Step kStep = kFloat                        ? Step::plain
                                : kHasMins                    ? Step::inner
                                : kForm == WeightForm::q8_min ? Step::scaled_min
                                : kForm == WeightForm::s4     ? Step::halves
                                                              : Step::scaled;
};

CRIA_DEVICE uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/// The codebook's bytes for the codes in the low nibbles of w's bytes, and for those in the high ones.
/// __byte_perm chooses among eight bytes, so the two halves of the book are looked up, and bit 3 of a code
/// chooses one. That gives the codes' own order, low and high nibbles alternating.
CRIA_DEVICE void look_up(const uint4& book, uint32_t w, uint32_t& low, uint32_t& high) {
  const uint32_t index = w & 0x77777777u, halves = 0x32103210u | (w & 0x88888888u) >> 1;
  const uint32_t first =
      __byte_perm(__byte_perm(book.x, book.y, index), __byte_perm(book.z, book.w, index), halves);
  const uint32_t second = __byte_perm(__byte_perm(book.x, book.y, index >> 16),
                                      __byte_perm(book.z, book.w, index >> 16), halves >> 16);
  low = __byte_perm(first, second, 0x6420);
  high = __byte_perm(first, second, 0x7531);
}

/// The two groups of a pair as operands A. q: its loads; h0, h1: its words of high bits (Q5_K: one); book:
/// the chunk's codebook, of forms that have one.
template <WeightForm kForm>
CRIA_DEVICE void unpack_pair(const uint4* q, uint32_t h0, uint32_t h1, const uint4& book,
                             uint32_t (&a)[2][4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if constexpr (!Format<kForm>::kNibbles) {
      a[0][i] = word(q[0], i);
      a[1][i] = word(q[1], i);
    } else {
      const uint32_t w = word(q[0], i);
      if constexpr (Format<kForm>::kCodes) {
        look_up(book, w, a[0][i], a[1][i]);
      } else if constexpr (kForm == WeightForm::q4) {
        a[0][i] = w << 4 & 0xf0f0f0f0u;
        a[1][i] = w & 0xf0f0f0f0u;
      } else if constexpr (kForm == WeightForm::k6) {
        a[0][i] = (w << 2 & 0x3c3c3c3cu) | (h0 << (6 - 2 * i) & 0xc0c0c0c0u);
        a[1][i] = (w >> 2 & 0x3c3c3c3cu) | (h1 << (6 - 2 * i) & 0xc0c0c0c0u);
      } else {
        a[0][i] = w & 0x0f0f0f0fu;
        a[1][i] = w >> 4 & 0x0f0f0f0fu;
        if constexpr (kForm == WeightForm::k5) {
          a[0][i] |= (i < 2 ? h0 << (4 - 2 * i) : h0 >> (2 * i - 4)) & 0x10101010u;
          a[1][i] |= (i < 2 ? h0 << (3 - 2 * i) : h0 >> (2 * i - 3)) & 0x10101010u;
        }
      }
    }
  }
}

/// Sums of a block of 32 start here and so become floats by one exact fma: 0x4b400000 is 1.5 * 2^23, and the
/// sums are less than 2^22 (128 * 127 * 32).
constexpr int32_t kSumOrigin = 0x4b400000;
template <WeightForm kForm>
CRIA_DEVICE float block_sum_of(int32_t s) {
  constexpr float kUnit = 1.0f / (1 << Format<kForm>::kShift);
  return fmaf(float_of_bits(static_cast<uint32_t>(s)), kUnit, -12582912.0f * kUnit);
}

/// Form s4: the product of 32 columns of two rows with two tokens, scaled: fma(d1, S1, d0 * S0). scales_low
/// and scales_high: of each row both scales; bf16: what kind of halves they are.
template <WeightForm kForm>
CRIA_DEVICE void multiply_halves(float (&t)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                 uint32_t scales_low, uint32_t scales_high, bool bf16) {
#pragma unroll
  for (int k = 0; k < 2; k++) {
    int32_t s[4] = {kSumOrigin, kSumOrigin, kSumOrigin, kSumOrigin};
    const uint32_t part[2] = {a[2 * k], a[2 * k + 1]};
    mma_s8_k16(s, part, k ? b1 : b0);
    const float low = scale16_of(static_cast<uint16_t>(scales_low >> (16 * k)), bf16),
                high = scale16_of(static_cast<uint16_t>(scales_high >> (16 * k)), bf16);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float d = i < 2 ? low : high, sum = block_sum_of<kForm>(s[i]);
      t[i] = k ? fmaf(d, sum, t[i]) : d * sum;
    }
  }
}

/// The eight scales and mins of a row's header of Q4_K and Q5_K: d and dmin, then the file's twelve bytes.
CRIA_DEVICE K4Scales<uint32_t> k4_scales_of(const uint4& header) {
  return k4_scales(header.y, header.z, header.w);
}
/// Mins of groups of 16, 4t .. 4t + 3.
CRIA_DEVICE uint32_t mins_of_16(const K4Scales<uint32_t>& scales, int t) {
  return __byte_perm(t < 2 ? scales.min[0] : scales.min[1], 0, t & 1 ? 0x3322 : 0x1100);
}

CRIA_DEVICE int byte_of(uint32_t bytes, int i) { return static_cast<int>(bytes >> (8 * i) & 255u); }
CRIA_DEVICE int signed_byte_of(uint32_t bytes, int i) {
  return static_cast<int>(static_cast<int8_t>(bytes >> (8 * i)));
}
CRIA_DEVICE float low_half(uint32_t pair) { return f16_to_float(static_cast<uint16_t>(pair)); }
CRIA_DEVICE float high_half(uint32_t pair) { return f16_to_float(static_cast<uint16_t>(pair >> 16)); }

/// isum += scale * products of a group of 32 columns, exactly. scales: what a row's scales hold of the pair:
/// with six bits two bytes, else four signed ones, a byte for each 16 columns.
template <WeightForm kForm>
CRIA_DEVICE void multiply_group(int32_t (&isum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                uint32_t scales_low, uint32_t scales_high, int half) {
  if constexpr (Format<kForm>::kSixBits) {
    int32_t s[4] = {0, 0, 0, 0};
    const uint32_t b[2] = {b0, b1};
    mma_s8(s, a, b);
    const int low = byte_of(scales_low, half), high = byte_of(scales_high, half);
    isum[0] += low * s[0];
    isum[1] += low * s[1];
    isum[2] += high * s[2];
    isum[3] += high * s[3];
  } else {
    for (int k = 0; k < 2; k++) {
      int32_t s[4] = {0, 0, 0, 0};
      const uint32_t part[2] = {a[2 * k], a[2 * k + 1]};
      mma_s8_k16(s, part, k ? b1 : b0);
      const int low = signed_byte_of(scales_low, 2 * half + k),
                high = signed_byte_of(scales_high, 2 * half + k);
      isum[0] += low * s[0];
      isum[1] += low * s[1];
      isum[2] += high * s[2];
      isum[3] += high * s[3];
    }
  }
}

/// The sum of minima times sums of 16 activations, exactly. mins: four of each row; sums: low seven bits and
/// the rest of four of a token.
CRIA_DEVICE void multiply_mins(int32_t (&m)[4], uint32_t mins_low, uint32_t mins_high, uint2 sums) {
  const uint32_t mins[2] = {mins_low, mins_high};
  for (int i = 0; i < 4; i++) m[i] = 0;
  mma_s8_k16(m, mins, sums.y);
  for (int i = 0; i < 4; i++) m[i] = m[i] * 128;
  mma_s8_k16(m, mins, sums.x);
}

template <WeightForm kForm>
CRIA_DEVICE void multiply_floats(float (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  const uint32_t wide[4] = {a.x, a.y, a.z, a.w}, b[2] = {b0, b1};
  if constexpr (kForm == WeightForm::bf16)
    mma_bf16(c, wide, b);
  else
    mma_f16(c, wide, b);
}

/// What becomes of a product's sums (MatmulArgs), as kernels get it. First adjust(), then store(): a kernel
/// whose matrix has neither scale nor bias must not pay for them with registers.
struct ProductOutput {
  Epilogue epilogue;
  ScaleAndBias own, up;
  explicit ProductOutput(const MatmulArgs& a) : epilogue(a.epilogue), own(a.own), up(a.up) {}

  CRIA_DEVICE bool is_swiglu() const { return epilogue == Epilogue::swiglu; }
  CRIA_DEVICE bool adjusts() const { return own.scale != 1.0f || own.bias || up.scale != 1.0f || up.bias; }
  /// The output of row r of a tile. With swiglu, rows 0 .. 7 are of gate and rows 8 .. 15 the same ones of
  /// up.
  CRIA_DEVICE int64_t row_of(int64_t tile, int r) const {
    return is_swiglu() ? tile * 8 + r % 8 : tile * kTileRows + r;
  }
  /// Takes the steps of ScaleAndBias for n sums of row r of a tile.
  CRIA_DEVICE void adjust(float* sums, int n, int64_t tile, int r, int64_t rows) const {
    const bool is_up = is_swiglu() && r >= 8;
    const float scale = is_up ? up.scale : own.scale;
    const float* bias = is_up ? up.bias : own.bias;
    if (scale != 1.0f) {
#pragma unroll
      for (int i = 0; i < n; i++) sums[i] = sums[i] * scale;
    }
    const int64_t row = row_of(tile, r);
    if (bias && row < rows) {
#pragma unroll
      for (int i = 0; i < n; i++) sums[i] = sums[i] + bias[row];
    }
  }
  /// `second` is the product of the row eight below: up, where this is gate.
  CRIA_DEVICE void store(float product, float second, float* y) const {
    if (is_swiglu())
      *y = silu(product) * second;
    else if (epilogue == Epilogue::add)
      *y = *y + product;
    else
      *y = product;
  }
};

}  // namespace cria::cuda
