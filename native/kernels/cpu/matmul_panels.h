// Products of quantized weights with any number of tokens. Compiled per level.
//
// Weights come interleaved (interleave.h): 32 rows at a time, a vector load brings four columns of sixteen
// rows, and a broadcast of four activations meets them. Tiles of a few tokens add a panel's blocks to their
// sums, one run of blocks after the other, so that the run stays in L1 for all tiles; meanwhile the bytes
// ahead are fetched, a few lines at a time. Weights in the file's layout are interleaved into scratch first,
// a run at a time.
//
// Order of summation (docs/numerics.md): an accumulator per output element, one float step per block
// (k-quants with mins: two), in the order of the columns. Sums of integers are exact.
#pragma once

#include "kernels/cpu/matmul_formats.h"
#include "kernels/cpu/matmul_interleave.h"

namespace cria::CRIA_ISA {

// Tokens of a tile at most, and few: no more than the memory keeps up with. Sanitizers, which slow the
// compiler down, see the same code in smaller tiles.
#if defined(CRIA_SMALL_TILES)
constexpr int kMostTokens = 2, kStreamTokens = 1;
#else
constexpr int kMostTokens = kTileTokens, kStreamTokens = 3;
#endif
constexpr int kManyBlocks = 64;  // of 32 columns: a run for many tokens

/// What unsigned bytes have too much. Formats with a minimum have none.
template <class F>
constexpr int kUnsignedOffset = F::kSigned ? kSignedOffset : F::kOffset;

/// Lines that a tile fetches while it computes, a few at a step.
struct Fetch {
  const uint8_t* next;
  int lines_per_step;

  inline __attribute__((always_inline)) void step() {
    const uint8_t* stop = next + 64 * lines_per_step;
    for (; next < stop; next += 64) prefetch(next);
  }
};

/// Scales of a panel's block, for tiles of many tokens.
template <int kGroups>
struct alignas(64) PanelScales {
  int32_t scale[kGroups][kPanelRows];
  int32_t min[kGroups / 2][kPanelRows];  // two words each
  float d[kPanelRows], minus_dmin[kPanelRows];
};

struct PanelTile {
  const uint8_t* panel;  // the run's first block
  const void* scales;    // of super-blocks: PanelScales
  int64_t first_block;
  int blocks;
  const ActivationRows* x;
  int64_t n_tokens, token;    // of x; the tile's first
  float (*sums)[kPanelRows];  // of the columns before, to which the run's are added
  Fetch fetch;
};

CRIA_INLINE I32x16 meet(bool is_signed, I32x16 acc, I32x16 w, Bytes4 x) {
  return is_signed ? dot_signed(acc, w, x) : dot_bytes(acc, w, x);
}

/// acc[t][h] += sixteen rows x 4 * kSteps columns of token t. bytes(h, k): columns 4k .. 4k + 3 of half h;
/// q(t): the token's activations.
template <class F, int kTokens, int kSteps, class Bytes, class Activations>
CRIA_INLINE void multiply_group(Bytes bytes, Activations q, I32x16 acc[][kTileHalves]) {
  CRIA_UNROLL(8)
  for (int k = 0; k < kSteps; k++) {
    I32x16 w[kTileHalves];
    CRIA_UNROLL(2)
    for (int h = 0; h < kTileHalves; h++) {
      w[h] = bytes(h, k);
      if (F::kSigned) w[h] = signed_bytes(w[h]);
      pin(w[h]);  // or gcc 12 loads it again for every token
    }
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      const Bytes4 v = broadcast4(q(t) + 4 * k);
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) acc[t][h] = meet(F::kSigned, acc[t][h], w[h], v);
    }
  }
}

template <class F, int kTokens>
static void tile_blocks32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const int8_t* q[kTokens];
  // Where a block's sum starts: at what the offset of the bytes adds to it, taken off.
  int32_t start[kTokens][kManyBlocks];
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t;
    q[t] = x.q + token * x.cols + kBlockSize * tile.first_block;
    const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * tile.first_block;
    if constexpr (kUnsignedOffset<F> != 0)
      for (int b = 0; b < tile.blocks; b++)
        start[t][b] = -kUnsignedOffset<F> * (sums[2 * b] + sums[2 * b + 1]);
  }
  const float* scale = x.scale + tile.token * x.scale_stride + tile.first_block;
  const float* weighted =
      F::kHasMin ? x.weighted_sum + tile.token * x.scale_stride + tile.first_block : nullptr;
  for (int first = 0; first < 2; first += kTileHalves) {
    F32x16 acc[kTokens][kTileHalves];
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) acc[t][h] = load(tile.sums[t] + 16 * (first + h));
    Fetch fetch = tile.fetch;
    for (int b = 0; b < tile.blocks; b++) {
      if (first == 0) fetch.step();
      HalfBlock block[kTileHalves];
      for (int h = 0; h < kTileHalves; h++) block[h] = {tile.panel + b * kPanelBlockBytes<F>, first + h};
      I32x16 isum[kTokens][kTileHalves];
      for (int t = 0; t < kTokens; t++)
        for (int h = 0; h < kTileHalves; h++)
          isum[t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? start[t][b] : 0);
      multiply_group<F, kTokens, 8>([&](int h, int k) { return F::bytes(block[h], k); },
                                    [&](int t) { return q[t] + 32 * b; }, isum);
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const F32x16 d = F::d(block[h]);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const F32x16 dx = set1(scale[t * x.scale_stride + b]);
          acc[t][h] = fma(mul(d, dx), to_f32(isum[t][h]), acc[t][h]);
          if constexpr (F::kHasMin)
            acc[t][h] = fma(F::m(block[h]), set1(weighted[t * x.scale_stride + b]), acc[t][h]);
        }
      }
    }
    for (int t = 0; t < kTokens; t++)
      for (int h = 0; h < kTileHalves; h++) store(tile.sums[t] + 16 * (first + h), acc[t][h]);
  }
}

// ---- super-blocks ----

/// A tile's activations of one super-block, and their sums: by groups, two words to a dword, which meet the
/// mins, or times what the offset of the bytes adds to the products, taken off.
template <class F, int kTokens>
struct SuperActivations {
  const int8_t* q;  // token t's at q + 256 t
  const float* scale;
  alignas(64) int32_t pairs[kTokens][8], start[kTokens][16];

  CRIA_METHOD SuperActivations(const ActivationRows& x, int64_t n_tokens, int64_t token, int64_t block) {
    const int64_t at = block * n_tokens + token;
    q = x.q + kSuperBlockSize * at;
    scale = x.scale + at;
    for (int t = 0; t < kTokens; t++) {
      const int16_t* sums = x.sums16 + 16 * (at + t);
      int16_t of_32[8];
      if constexpr (F::kGroups == 8) add_pairs(sums, of_32);
      if constexpr (F::kHasMin) __builtin_memcpy(pairs[t], F::kGroups == 8 ? of_32 : sums, 2 * F::kGroups);
      if constexpr (kUnsignedOffset<F> != 0) {
        if constexpr (F::kGroups == 16)
          store_lanes(start[t], mul(widen_words(sums), set1_lanes(-kUnsignedOffset<F>)));
        else
          for (int g = 0; g < 8; g++) start[t][g] = -kUnsignedOffset<F> * of_32[g];
      }
    }
    asm("" : : "r"(pairs), "r"(start) : "memory");  // they stay in memory, where broadcasts are free
  }
};

/// Part kPart of group(outer, kI): isum += scale * sum of products. scale(h, g): of group g, half h.
template <class F, int kTokens, int kFirst, int kI, int kPart, class Scale>
CRIA_INLINE void add_group(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                           Scale scale, I32x16 isum[][kTileHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts;
  const int64_t group = F::kInner * outer + kI, scaled = kParts * group + kPart;
  asm("" : "+r"(panel));  // or gcc keeps what other groups loaded from here in registers that it lacks
  const int8_t* q = x.q + 32 * group + 4 * kSteps * kPart;
  I32x16 products[kTokens][kTileHalves];
  CRIA_UNROLL(8)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++)
    products[t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? x.start[t][scaled] : 0);
  multiply_group<F, kTokens, kSteps>(
      [&](int h, int k) { return F::bytes(HalfBlock{panel, kFirst + h}, outer, kI, kSteps * kPart + k); },
      [&](int t) { return q + kSuperBlockSize * t; }, products);
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) {
    const I32x16 s = scale(h, scaled);
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      if constexpr (F::shift(kI) != 0) products[t][h] = right_signed(products[t][h], F::shift(kI));
      isum[t][h] = add(isum[t][h], mul(products[t][h], s));
    }
  }
}
/// Groups (outer, kI) and those after it.
template <class F, int kTokens, int kFirst, int kI, class Scale>
CRIA_INLINE void add_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x, int64_t outer,
                            Fetch& fetch, Scale scale, I32x16 isum[][kTileHalves]) {
  if (kFirst == 0) fetch.step();
  add_group<F, kTokens, kFirst, kI, 0>(panel, x, outer, scale, isum);
  if constexpr (F::kGroups == 16) add_group<F, kTokens, kFirst, kI, 1>(panel, x, outer, scale, isum);
  if constexpr (kI + 1 < F::kInner)
    add_groups<F, kTokens, kFirst, kI + 1>(panel, x, outer, fetch, scale, isum);
}

/// The float step of a block: what it adds to `before`.
template <class F>
CRIA_INLINE F32x16 block_step(F32x16 before, F32x16 d, F32x16 minus_dmin, float scale, I32x16 isum,
                              I32x16 m) {
  const F32x16 dx = set1(scale), sum = to_f32(isum);
  if constexpr (F::kHasMin) return fma(dx, fma(minus_dmin, to_f32(m), mul(d, sum)), before);
  return fma(mul(d, dx), sum, before);
}

/// Halves kFirst .. kFirst + kTileHalves - 1 of a block's rows, with scales from memory.
template <class F, int kTokens, int kFirst>
CRIA_INLINE void add_super_block(const PanelTile& tile, const SuperActivations<F, kTokens>& x) {
  const auto& s = *static_cast<const PanelScales<F::kGroups>*>(tile.scales);
  I32x16 isum[kTokens][kTileHalves];
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1_lanes(0);
  Fetch fetch = tile.fetch;
  for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
    asm("" : "+r"(outer));  // a real loop: unrolled it overflows the cache of decoded instructions
    add_groups<F, kTokens, kFirst, 0>(
        tile.panel, x, outer, fetch,
        [&](int h, int64_t g) { return load_lanes(s.scale[g] + 16 * (kFirst + h)); }, isum);
  }
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) {
    const int row = 16 * (kFirst + h);
    I32x16 m[kTokens];
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) m[t] = set1_lanes(0);
    CRIA_UNROLL(8)
    for (int j = 0; j < F::kGroups / 2 && F::kHasMin; j++) {
      const I32x16 min = load_lanes(s.min[j] + row);
      CRIA_UNROLL(8)
      for (int t = 0; t < kTokens; t++) m[t] = dot_words(m[t], min, x.pairs[t][j]);
    }
    const F32x16 d = load(s.d + row), minus_dmin = load(s.minus_dmin + row);
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++)
      store(tile.sums[t] + row,
            block_step<F>(load(tile.sums[t] + row), d, minus_dmin, x.scale[t], isum[t][h], m[t]));
  }
}

// One block, for any number of tokens.
template <class F, int kTokens>
static void tile_blocks256(const PanelTile& tile) {
  const SuperActivations<F, kTokens> x(*tile.x, tile.n_tokens, tile.token, tile.first_block);
  add_super_block<F, kTokens, 0>(tile, x);
  if constexpr (kTileHalves == 1) add_super_block<F, kTokens, 1>(tile, x);
}

/// The groups of `kOuter` and those after it, for few tokens: what is loaded serves all groups that have bits
/// of it. The bytes that `ahead` has where these stand in their block are fetched.
template <class F, int kTokens, int kFirst, int kOuter>
CRIA_INLINE void stream_groups(const uint8_t* panel, const SuperActivations<F, kTokens>& x,
                               const uint8_t* ahead, const typename F::Header* header,
                               I32x16 isum[][kTileHalves]) {
  constexpr int kParts = F::kGroups / 8, kSteps = 8 / kParts, kAllSteps = 64 / F::kInner;
  constexpr int kLines = (kPanelBlockBytes<F> / 64 + kAllSteps - 1) / kAllSteps;  // at each step
  CRIA_UNROLL(2)
  for (int part = 0; part < kParts; part++) {
    I32x16 products[F::kInner][kTokens][kTileHalves];
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      const int g = kParts * (F::kInner * kOuter + i) + part;
      CRIA_UNROLL(8)
      for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++)
        products[i][t][h] = set1_lanes(kUnsignedOffset<F> != 0 ? x.start[t][g] : 0);
    }
    CRIA_UNROLL(8)
    for (int k = kSteps * part; k < kSteps * (part + 1); k++) {
      CRIA_UNROLL(8)
      for (int line = 0; line < kLines && kFirst == 0; line++)
        prefetch(ahead + 64 * (kLines * (8 * kOuter + k) + line));
      CRIA_UNROLL(4)
      for (int i = 0; i < F::kInner; i++) {
        I32x16 w[kTileHalves];
        CRIA_UNROLL(2)
        for (int h = 0; h < kTileHalves; h++) {
          w[h] = F::bytes(HalfBlock{panel, kFirst + h}, kOuter, i, k);
          if (F::kSigned) w[h] = signed_bytes(w[h]);
        }
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          const Bytes4 v = broadcast4(x.q + kSuperBlockSize * t + 32 * (F::kInner * kOuter + i) + 4 * k);
          CRIA_UNROLL(2)
          for (int h = 0; h < kTileHalves; h++)
            products[i][t][h] = meet(F::kSigned, products[i][t][h], w[h], v);
        }
      }
    }
    CRIA_UNROLL(4)
    for (int i = 0; i < F::kInner; i++) {
      const int g = kParts * (F::kInner * kOuter + i) + part;
      CRIA_UNROLL(2)
      for (int h = 0; h < kTileHalves; h++) {
        const I32x16 scale = header[h].scale(g);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) {
          I32x16 sum = products[i][t][h];
          if (F::shift(i) != 0) sum = right_signed(sum, F::shift(i));
          isum[t][h] = add(isum[t][h], mul(sum, scale));
        }
      }
    }
  }
  if constexpr (kOuter + 1 < 8 / F::kInner)
    stream_groups<F, kTokens, kFirst, kOuter + 1>(panel, x, ahead, header, isum);
}

/// Halves kFirst .. kFirst + kTileHalves - 1 of a block's rows, with scales and sums in registers.
template <class F, int kTokens, int kFirst>
CRIA_INLINE void stream_super_block(const uint8_t* panel, const SuperActivations<F, kTokens>& x,
                                    const uint8_t* ahead, F32x16 acc[][2]) {
  typename F::Header header[kTileHalves];
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) header[h].read(HalfBlock{panel, kFirst + h});
  I32x16 isum[kTokens][kTileHalves];
  CRIA_UNROLL(8)
  for (int t = 0; t < kTokens; t++) CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) isum[t][h] = set1_lanes(0);
  stream_groups<F, kTokens, kFirst, 0>(panel, x, ahead, header, isum);
  CRIA_UNROLL(2)
  for (int h = 0; h < kTileHalves; h++) {
    I32x16 m[kTokens];
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) m[t] = set1_lanes(0);
    F32x16 minus_dmin = set1(0.0f);
    if constexpr (F::kHasMin) {
      minus_dmin = header[h].minus_dmin();
      CRIA_UNROLL(8)
      for (int j = 0; j < F::kGroups / 2; j++) {
        const I32x16 min = header[h].min_pair(j);
        CRIA_UNROLL(8)
        for (int t = 0; t < kTokens; t++) m[t] = dot_words(m[t], min, x.pairs[t][j]);
      }
    }
    const F32x16 d = header[h].d();
    CRIA_UNROLL(8)
    for (int t = 0; t < kTokens; t++) {
      F32x16& sum = acc[t][kFirst + h];
      sum = block_step<F>(sum, d, minus_dmin, x.scale[t], isum[t][h], m[t]);
    }
  }
}

// A run of blocks for few tokens, which stream from memory.
template <class F, int kTokens>
static void stream_blocks256(const PanelTile& tile) {
  F32x16 acc[kTokens][2];
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) acc[t][h] = load(tile.sums[t] + 16 * h);
  const uint8_t *panel = tile.panel, *ahead = tile.fetch.next;
  for (int64_t b = 0; b < tile.blocks; b++, panel += kPanelBlockBytes<F>, ahead += kPanelBlockBytes<F>) {
    const SuperActivations<F, kTokens> x(*tile.x, tile.n_tokens, tile.token, tile.first_block + b);
    stream_super_block<F, kTokens, 0>(panel, x, ahead, acc);
    if constexpr (kTileHalves == 1) stream_super_block<F, kTokens, 1>(panel, x, ahead, acc);
  }
  for (int t = 0; t < kTokens; t++)
    for (int h = 0; h < 2; h++) store(tile.sums[t] + 16 * h, acc[t][h]);
}

// ---- by format ----

using PanelTileFunction = void (*)(const PanelTile& tile);

struct PanelFormat {
  void (*scales)(const uint8_t* block, void* scales);  // null for blocks of 32
  // [tokens - 1]: for few tokens that stream, and for any number.
  PanelTileFunction stream[kStreamTokens], tiles[kMostTokens];
  int block_size, few_blocks, many_blocks;  // blocks of a run: for few tokens, and for many
  int64_t block_bytes;                      // of a panel's block
  int64_t stream_ahead;                     // bytes that few tokens fetch ahead (docs/performance.md)
};

template <class F>
static void panel_scales(const uint8_t* block, void* scales) {
  auto& s = *static_cast<PanelScales<F::kGroups>*>(scales);
  for (int half = 0; half < 2; half++) {
    typename F::Header header;
    header.read(HalfBlock{block, half});
    CRIA_UNROLL(16)
    for (int g = 0; g < F::kGroups; g++) store_lanes(s.scale[g] + 16 * half, header.scale(g));
    store(s.d + 16 * half, header.d());
    if constexpr (F::kHasMin) {
      CRIA_UNROLL(8)
      for (int j = 0; j < F::kGroups / 2; j++) store_lanes(s.min[j] + 16 * half, header.min_pair(j));
      store(s.minus_dmin + 16 * half, header.minus_dmin());
    }
  }
}

// Lists of tiles, by tokens.
template <class F, int kTokens>
CRIA_INLINE void add_tiles32(PanelFormat& format) {
  format.tiles[kTokens - 1] = tile_blocks32<F, kTokens>;
  if constexpr (kTokens <= kStreamTokens) format.stream[kTokens - 1] = tile_blocks32<F, kTokens>;
  if constexpr (kTokens > 1) add_tiles32<F, kTokens - 1>(format);
}
template <class F, int kTokens>
CRIA_INLINE void add_tiles256(PanelFormat& format) {
  format.tiles[kTokens - 1] = tile_blocks256<F, kTokens>;
  if constexpr (kTokens <= kStreamTokens) format.stream[kTokens - 1] = stream_blocks256<F, kTokens>;
  if constexpr (kTokens > 1) add_tiles256<F, kTokens - 1>(format);
}

template <class F>
CRIA_INLINE PanelFormat blocks32() {
  PanelFormat format{nullptr, {}, {}, kBlockSize, 8, kManyBlocks, kPanelBlockBytes<F>, 2048};
  add_tiles32<F, kMostTokens>(format);
  return format;
}
template <class F>
CRIA_INLINE PanelFormat blocks256() {
  PanelFormat format{panel_scales<F>, {}, {}, kSuperBlockSize, 1, 1, kPanelBlockBytes<F>, 8192};
  add_tiles256<F, kMostTokens>(format);
  return format;
}

static PanelFormat panel_format(DType dtype) {
  switch (dtype) {
    case DType::q4_0: return blocks32<FormatQ4_0>();
    case DType::q4_1: return blocks32<FormatQ4_1>();
    case DType::q5_0: return blocks32<FormatQ5_0>();
    case DType::q5_1: return blocks32<FormatQ5_1>();
    case DType::q8_0: return blocks32<FormatQ8_0>();
    case DType::iq4_nl: return blocks32<FormatIQ4_NL>();
    case DType::q2_k: return blocks256<FormatQ2_K>();
    case DType::q3_k: return blocks256<FormatQ3_K>();
    case DType::q4_k: return blocks256<FormatQ4_K>();
    case DType::q5_k: return blocks256<FormatQ5_K>();
    case DType::q6_k: return blocks256<FormatQ6_K>();
    case DType::iq4_xs: return blocks256<FormatIQ4_XS>();
    default: return {};
  }
}

// Up to here runs of 256 columns that stay in L1; for more tokens of blocks of 32 runs of 2048, since a
// tile's setting out costs more than reading them from L2. Few tokens take runs of 2048 columns in one go.
constexpr int64_t kFewTokens = 32, kStreamColumns = 2048;
constexpr int64_t kFetchAhead = 4096;  // bytes beyond a run that stays in L1 (docs/performance.md)

/// Scratch for scales and for a run that was interleaved.
static int64_t panel_scratch_bytes(DType dtype) {
  const PanelFormat f = panel_format(dtype);
  return static_cast<int64_t>(sizeof(PanelScales<16>)) + kStreamColumns / f.block_size * f.block_bytes;
}

/// The sums of rows [row, row + 32) with all tokens. `scratch`: panel_scratch_bytes, aligned to 64.
static void sum_panel(const MatmulRows& args, int64_t row, int64_t row_end, uint8_t* scratch,
                      float (*sums)[kPanelRows]) {
  const PanelFormat format = panel_format(args.dtype);
  void* scales = scratch;
  uint8_t* interleaved = scratch + sizeof(PanelScales<16>);
  __builtin_memset(sums, 0, static_cast<size_t>(args.n_tokens) * sizeof *sums);

  const bool stream = args.n_tokens <= kStreamTokens, many = args.n_tokens > kFewTokens;
  const PanelTileFunction* functions = stream ? format.stream : format.tiles;
  const int64_t blocks = args.cols / format.block_size;
  const int64_t row_bytes = blocks * format.block_bytes / kPanelRows;
  const int64_t at_once = stream ? kStreamColumns / format.block_size
                          : many ? format.many_blocks
                                 : format.few_blocks;
  const uint8_t* panel = args.weights + row * row_bytes;
  RowPointers rows;
  rows.count = static_cast<int>(row_end - row < kPanelRows ? row_end - row : kPanelRows);
  for (int i = 0; i < rows.count; i++) rows.row[i] = panel + i * row_bytes;

  // Even shares of at most kMostTokens: 16 tokens are 6 + 5 + 5, never 6 + 6 + 4.
  const int64_t tiles = (args.n_tokens + kMostTokens - 1) / kMostTokens;
  // Each tile fetches its share of what comes after the run; in the file's layout, of the next 32 rows.
  const int64_t lines = (at_once * format.block_bytes + 63) / 64;
  const int64_t steps = at_once * format.block_size / 32;  // of a tile
  const int lines_per_step = static_cast<int>((lines + steps * tiles - 1) / (steps * tiles));
  const int64_t lead = !args.interleaved ? kPanelRows * row_bytes
                       : stream          ? format.stream_ahead
                                         : at_once * format.block_bytes + kFetchAhead;
  for (int64_t b = 0; b < blocks; b += at_once) {
    const int count = static_cast<int>(blocks - b < at_once ? blocks - b : at_once);
    const uint8_t* run = panel + b * format.block_bytes;
    const uint8_t* ahead = run + lead;
    if (!args.interleaved) {
      interleave(args.dtype, &rows, b, count, interleaved);
      run = interleaved;
    }
    if (format.scales && !stream) format.scales(run, scales);
    int64_t token = 0, fetched = 0;
    for (int64_t i = 0; i < tiles; i++) {
      const int tokens = static_cast<int>(args.n_tokens / tiles + (i < args.n_tokens % tiles ? 1 : 0));
      const int now = fetched < lines ? lines_per_step : 0;
      functions[tokens - 1](
          {run, scales, b, count, &args.x, args.n_tokens, token, sums + token, {ahead + 64 * fetched, now}});
      fetched += steps * now;
      token += tokens;
    }
  }
}

}  // namespace cria::CRIA_ISA
