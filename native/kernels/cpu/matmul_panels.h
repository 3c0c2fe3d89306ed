// Products of quantized weights with many tokens on AVX-512 VNNI, with the bits of matmul.h. Compiled per
// level.
//
// 32 rows by 256 columns at a time are unpacked into a panel of unsigned bytes, four columns to a
// dword and rows in lanes, which stays in L1; tiles of up to six tokens then add its products to their sums:
// each broadcast of four activations meets two registers of rows. Meanwhile the bytes of the next 32 rows are
// fetched, a few lines at a time. Signed formats become unsigned by an offset, which is taken off through the
// activations' sums.
#pragma once

#include "kernels/cpu/matmul_unpack.h"
#include "kernels/cpu/swiglu.h"

namespace cria::CRIA_ISA {

constexpr int kPanelTokens =
    6;  // 12 accumulators of 16 rows, as many sums, 2 weights, 1 broadcast: 27 of 32 registers

typedef int32_t __attribute__((may_alias, aligned(1))) DwordAnywhere;

// ---- tiles ----

/// acc += rows x 4 * kSteps columns, for kTokens tokens at x[t]. Of the bytes what `mask` keeps, if kMasked.
template <int kTokens, int kSteps, bool kMasked = false>
CRIA_INLINE void multiply_group(const uint8_t* q, const int8_t* const* x, int64_t at, __m512i acc[][2],
                                uint8_t mask = 0) {
#pragma GCC unroll 8
  for (int k = 0; k < kSteps; k++) {
    __m512i w0 = _mm512_load_si512(q + 128 * k), w1 = _mm512_load_si512(q + 128 * k + 64);
    if constexpr (kMasked) w0 = keep(w0, mask), w1 = keep(w1, mask);
    asm("" : "+v"(w0), "+v"(w1));  // or gcc 12 loads them again for every token
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const __m512i v = _mm512_set1_epi32(*reinterpret_cast<const DwordAnywhere*>(x[t] + at + 4 * k));
      acc[t][0] = _mm512_dpbusd_epi32(acc[t][0], w0, v);
      acc[t][1] = _mm512_dpbusd_epi32(acc[t][1], w1, v);
    }
  }
}

/// Lines that a tile fetches while it computes, a few at a step.
struct Fetch {
  const uint8_t* next;
  int lines_per_step;

  inline __attribute__((always_inline)) void step() {
    const uint8_t* stop = next + 64 * lines_per_step;
    for (; next < stop; next += 64) prefetch(next);
  }
};

struct PanelTile {
  const void* panel;
  int64_t first_block;
  int blocks;
  const ActivationRows* x;
  int64_t n_tokens, token;    // of x; the tile's first
  int offset;                 // of the unsigned bytes; 0 for formats with a minimum
  float (*sums)[kPanelRows];  // of the columns before, to which the panel's are added
  Fetch fetch;
};

/// kMost: of blocks; 16, or kPanelBlocks.
template <bool kHasMin, int kMost, int kTokens>
static void tile_panel32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto* panels = static_cast<const Panel32*>(tile.panel);
  __m512 acc[kTokens][2];
  const int8_t* q[kTokens];
  // A block's scale, and where its sum starts: at what the offset of the bytes adds to it, or (kHasMin) what
  // its minimum meets.
  alignas(64) float scale[kTokens][kMost], weighted[kTokens][kMost];
  alignas(64) int32_t start[kTokens][kMost];
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t, at = token * x.scale_stride + tile.first_block;
    acc[t][0] = _mm512_load_ps(tile.sums[t]);
    acc[t][1] = _mm512_load_ps(tile.sums[t] + 16);
    q[t] = x.q + token * x.cols + kBlockSize * tile.first_block;
    for (int b = 0; b < kMost && b < tile.blocks; b += 16) {
      const __mmask16 present = first_lanes(tile.blocks - b);
      _mm512_store_ps(scale[t] + b, _mm512_maskz_loadu_ps(present, x.scale + at + b));
      if constexpr (kHasMin) {
        _mm512_store_ps(weighted[t] + b, _mm512_maskz_loadu_ps(present, x.weighted_sum + at + b));
      } else {
        const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * (tile.first_block + b);
        const __m512i minus = _mm512_set1_epi16(static_cast<short>(-tile.offset));
        _mm512_store_si512(start[t] + b, _mm512_madd_epi16(_mm512_maskz_loadu_epi32(present, sums), minus));
      }
    }
  }
  Fetch fetch = tile.fetch;
  for (int b = 0; b < tile.blocks; b++) {
    fetch.step();
    const Panel32& p = panels[b];
    __m512i isum[kTokens][2];
    for (int t = 0; t < kTokens; t++)
      isum[t][0] = isum[t][1] = kHasMin ? _mm512_setzero_si512() : _mm512_set1_epi32(start[t][b]);
    multiply_group<kTokens, 8>(p.q[0], q, 32 * b, isum);
    const __m512 d0 = _mm512_load_ps(p.d), d1 = _mm512_load_ps(p.d + 16);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const __m512 dx = _mm512_set1_ps(scale[t][b]);
      acc[t][0] = _mm512_fmadd_ps(_mm512_mul_ps(d0, dx), _mm512_cvtepi32_ps(isum[t][0]), acc[t][0]);
      acc[t][1] = _mm512_fmadd_ps(_mm512_mul_ps(d1, dx), _mm512_cvtepi32_ps(isum[t][1]), acc[t][1]);
      if constexpr (kHasMin) {
        const __m512 sx = _mm512_set1_ps(weighted[t][b]);
        acc[t][0] = _mm512_fmadd_ps(_mm512_load_ps(p.m), sx, acc[t][0]);
        acc[t][1] = _mm512_fmadd_ps(_mm512_load_ps(p.m + 16), sx, acc[t][1]);
      }
    }
  }
  for (int t = 0; t < kTokens; t++) {
    _mm512_store_ps(tile.sums[t], acc[t][0]);
    _mm512_store_ps(tile.sums[t] + 16, acc[t][1]);
  }
}

/// A token's sums of a super-block's groups of 32 activations, or of 16 when kGroups is 16.
template <int kGroups>
CRIA_INLINE __m256i group_sums(const int16_t* sums16) {
  const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums16));
  if constexpr (kGroups == 16) return s;
  // At most 32 * 127.
  return _mm256_castsi128_si256(_mm256_cvtepi32_epi16(_mm256_madd_epi16(s, _mm256_set1_epi16(1))));
}

template <int kGroups, bool kHasMin, bool kNibbles, int kTokens>
static void tile_panel256(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto& p = *static_cast<const Panel256<kGroups>*>(tile.panel);
  const int8_t* q[kTokens];
  // kHasMin: what the mins meet, two words to a dword. Else what the products of a group begin with: what the
  // offset of the bytes adds to them, taken off.
  alignas(64) int32_t pairs[kTokens][kGroups / 2], start[kTokens][16];
  for (int t = 0; t < kTokens; t++) {
    const int64_t at = tile.first_block * tile.n_tokens + tile.token + t;
    q[t] = x.q + kSuperBlockSize * at;
    const __m256i sums = group_sums<kGroups>(x.sums16 + 16 * at);
    if constexpr (!kHasMin)
      _mm512_store_si512(start[t],
                         _mm512_mullo_epi32(_mm512_cvtepi16_epi32(sums), _mm512_set1_epi32(-tile.offset)));
    else if constexpr (kGroups == 16)
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs[t]), sums);
    else
      _mm_store_si128(reinterpret_cast<__m128i*>(pairs[t]), _mm256_castsi256_si128(sums));
  }
  __m512i isum[kTokens][2];
  for (int t = 0; t < kTokens; t++) isum[t][0] = isum[t][1] = _mm512_setzero_si512();
  Fetch fetch = tile.fetch;
  constexpr int kTogether = kNibbles ? 2 : 1;
  for (int pair = 0; pair < 8; pair += kTogether) {
    asm("" : "+r"(pair));  // a real loop: unrolled it overflows the cache of decoded instructions
#pragma GCC unroll 2
    for (int upper = 0; upper < kTogether; upper++) {
      const int g = pair + upper;
      fetch.step();
      constexpr int kParts = kGroups / 8, kSteps = 8 / kParts;
#pragma GCC unroll 2
      for (int part = 0; part < kParts; part++) {
        __m512i products[kTokens][2];
        for (int t = 0; t < kTokens; t++)
          products[t][0] = products[t][1] =
              kHasMin ? _mm512_setzero_si512() : _mm512_set1_epi32(start[t][kParts * g + part]);
        multiply_group<kTokens, kSteps, kNibbles>(p.q[g / kTogether][kSteps * part], q,
                                                  32 * g + 4 * kSteps * part, products, upper ? 0xf0 : 0x0f);
        const int32_t* s = p.scale[kParts * g + part];
        const __m512i s0 = _mm512_load_si512(s), s1 = _mm512_load_si512(s + 16);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; t++) {
          if (upper)  // the nibbles were multiplied where they stand, sixteen times too much
            for (int h = 0; h < 2; h++) products[t][h] = _mm512_srai_epi32(products[t][h], 4);
          isum[t][0] = _mm512_add_epi32(isum[t][0], _mm512_mullo_epi32(products[t][0], s0));
          isum[t][1] = _mm512_add_epi32(isum[t][1], _mm512_mullo_epi32(products[t][1], s1));
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; t++) {
    const __m512 dx = _mm512_set1_ps(x.scale[tile.first_block * tile.n_tokens + tile.token + t]);
    __m512i m[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int j = 0; j < kGroups / 2 && kHasMin; j++) {
      const __m512i v = _mm512_set1_epi32(pairs[t][j]);
      m[0] = _mm512_dpwssd_epi32(m[0], _mm512_load_si512(p.min[j][0]), v);
      m[1] = _mm512_dpwssd_epi32(m[1], _mm512_load_si512(p.min[j][16]), v);
    }
    for (int h = 0; h < 2; h++) {
      float* sums = tile.sums[t] + 16 * h;
      const __m512 d = _mm512_load_ps(p.d + 16 * h), before = _mm512_load_ps(sums);
      const __m512 sum = _mm512_cvtepi32_ps(isum[t][h]);
      if constexpr (kHasMin) {
        const __m512 step = _mm512_fmadd_ps(_mm512_load_ps(p.minus_dmin + 16 * h), _mm512_cvtepi32_ps(m[h]),
                                            _mm512_mul_ps(d, sum));
        _mm512_store_ps(sums, _mm512_fmadd_ps(dx, step, before));
      } else {
        _mm512_store_ps(sums, _mm512_fmadd_ps(_mm512_mul_ps(d, dx), sum, before));
      }
    }
  }
}

// ---- by format ----

using PanelTileFunction = void (*)(const PanelTile& tile);

struct PanelFormat {
  void (*unpack)(const RowPointers& rows, int64_t first_block, int blocks, void* panel);
  PanelTileFunction few[kPanelTokens], many[kPanelTokens];  // [tokens - 1], for few and for many blocks
  int block_size, few_blocks, many_blocks;                  // blocks of a panel
  size_t panel_bytes;
  int offset;
};

template <class F>
CRIA_INLINE PanelFormat panel_format32() {
  constexpr bool kMin = F::kHasMin;
  constexpr int kFew = 16, kMany = kPanelBlocks;
  return {unpack_panel32<F>,
          {tile_panel32<kMin, kFew, 1>, tile_panel32<kMin, kFew, 2>, tile_panel32<kMin, kFew, 3>,
           tile_panel32<kMin, kFew, 4>, tile_panel32<kMin, kFew, 5>, tile_panel32<kMin, kFew, 6>},
          {tile_panel32<kMin, kMany, 1>, tile_panel32<kMin, kMany, 2>, tile_panel32<kMin, kMany, 3>,
           tile_panel32<kMin, kMany, 4>, tile_panel32<kMin, kMany, 5>, tile_panel32<kMin, kMany, 6>},
          kBlockSize,
          8,
          kPanelBlocks,
          kPanelBlocks * sizeof(Panel32),
          kUnsignedOffset<F>};
}

template <class F>
CRIA_INLINE PanelFormat panel_format256() {
  constexpr int kG = F::kGroups;
  constexpr bool kMin = F::kHasMin;
  constexpr bool kNibbles = kPanelNibbles<F>;
  const PanelTileFunction tiles[] = {
      tile_panel256<kG, kMin, kNibbles, 1>, tile_panel256<kG, kMin, kNibbles, 2>,
      tile_panel256<kG, kMin, kNibbles, 3>, tile_panel256<kG, kMin, kNibbles, 4>,
      tile_panel256<kG, kMin, kNibbles, 5>, tile_panel256<kG, kMin, kNibbles, 6>};
  PanelFormat format{unpack_panel256<F>, {}, {}, kSuperBlockSize, 1, 1, sizeof(Panel256<kG>),
                     kUnsignedOffset<F>};
  for (int i = 0; i < kPanelTokens; i++) format.few[i] = format.many[i] = tiles[i];
  return format;
}

static PanelFormat panel_format(DType dtype) {
  switch (dtype) {
    case DType::q4_0: return panel_format32<FormatQ4_0>();
    case DType::q4_1: return panel_format32<FormatQ4_1>();
    case DType::q5_0: return panel_format32<FormatQ5_0>();
    case DType::q5_1: return panel_format32<FormatQ5_1>();
    case DType::q8_0: return panel_format32<FormatQ8_0>();
    case DType::iq4_nl: return panel_format32<FormatIQ4_NL>();
    case DType::q2_k: return panel_format256<FormatQ2_K>();
    case DType::q3_k: return panel_format256<FormatQ3_K>();
    case DType::q4_k: return panel_format256<FormatQ4_K>();
    case DType::q5_k: return panel_format256<FormatQ5_K>();
    case DType::q6_k: return panel_format256<FormatQ6_K>();
    case DType::iq4_xs: return panel_format256<FormatIQ4_XS>();
    default: return {};
  }
}

// Up to here a panel of 256 columns that stays in L1; for more tokens of blocks of 32 one of 2048, since a
// tile's setting out costs more than reading it from L2.
constexpr int64_t kFewTokens = 32;
constexpr int64_t kSumBytes = kPanelRows * sizeof(float);

static size_t panel_scratch_bytes(DType dtype, int64_t n_tokens) {
  const PanelFormat f = panel_format(dtype);
  return f.unpack ? f.panel_bytes + static_cast<size_t>(n_tokens * kSumBytes) : 0;
}

/// The sums of rows [row, row + 32) with all tokens: [n_tokens][32]. `scratch`: panel_scratch_bytes, aligned
/// to 64; the sums are its end.
static float (*multiply_panels(const MatmulRows& args, int64_t row, int64_t row_end,
                               uint8_t* scratch))[kPanelRows] {
  const PanelFormat format = panel_format(args.dtype);
  auto* sums = reinterpret_cast<float(*)[kPanelRows]>(scratch + format.panel_bytes);
  __builtin_memset(sums, 0, static_cast<size_t>(args.n_tokens * kSumBytes));
  const int64_t row_bytes = bytes_per_row(args.dtype, args.cols);
  RowPointers rows;
  for (int i = 0; i < kPanelRows; i++)
    rows.row[i] = args.weights + (row + i < row_end ? row + i : row_end - 1) * row_bytes;

  // Even shares of at most kPanelTokens: 16 tokens are 6 + 5 + 5, never 6 + 6 + 4.
  const int64_t tiles = (args.n_tokens + kPanelTokens - 1) / kPanelTokens;
  const bool many = args.n_tokens > kFewTokens;
  const int64_t blocks = args.cols / format.block_size,
                at_once = many ? format.many_blocks : format.few_blocks;
  // Each tile fetches its share of what the next 32 rows have where this panel lies.
  const int64_t lines = (row_bytes * at_once / blocks * kPanelRows + 63) / 64;
  const int64_t steps = at_once * format.block_size / 32;  // of a tile
  const int lines_per_step = static_cast<int>((lines + steps * tiles - 1) / (steps * tiles));
  const uint8_t* ahead = rows.row[0] + kPanelRows * row_bytes;
  for (int64_t b = 0; b < blocks; b += at_once) {
    const int count = static_cast<int>(blocks - b < at_once ? blocks - b : at_once);
    format.unpack(rows, b, count, scratch);
    int64_t token = 0;
    int64_t fetched = 0;
    for (int64_t i = 0; i < tiles; i++) {
      const int tokens = static_cast<int>(args.n_tokens / tiles + (i < args.n_tokens % tiles ? 1 : 0));
      const int now = fetched < lines ? lines_per_step : 0;
      (many ? format.many : format.few)[tokens - 1]({scratch,
                                                     b,
                                                     count,
                                                     &args.x,
                                                     args.n_tokens,
                                                     token,
                                                     format.offset,
                                                     sums + token,
                                                     {ahead + 64 * fetched, now}});
      fetched += steps * now;
      token += tokens;
    }
    ahead += 64 * lines;
  }
  return sums;
}

static void matmul_panel(const MatmulRows* args, int64_t row_begin, int64_t row_end, uint8_t* scratch) {
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    const auto* sums = multiply_panels(*args, row, row_end, scratch);
    for (int64_t t = 0; t < args->n_tokens; t++) {
      float* y = args->y + t * args->y_stride + row;
      for (int h = 0; h < 2; h++) {
        const int lanes = static_cast<int>(row_end - row) - 16 * h;
        if (lanes <= 0) break;
        const F32x16 sum = load(sums[t] + 16 * h);
        store(y + 16 * h, args->accumulate ? add(load(y + 16 * h, lanes), sum) : sum, lanes);
      }
    }
  }
}

/// The same rows of gate and up, h = silu(gate) * up written to gate's y. `scratch`: room for both.
static void gate_up_panel(const MatmulRows* gate, const MatmulRows* up, int64_t row_begin, int64_t row_end,
                          uint8_t* scratch) {
  uint8_t* up_scratch = scratch + panel_scratch_bytes(gate->dtype, gate->n_tokens);
  for (int64_t row = row_begin; row < row_end; row += kPanelRows) {
    const auto* gate_sums = multiply_panels(*gate, row, row_end, scratch);
    const auto* up_sums = multiply_panels(*up, row, row_end, up_scratch);
    const int64_t n = row_end - row < kPanelRows ? row_end - row : kPanelRows;
    for (int64_t t = 0; t < gate->n_tokens; t++)
      silu_mul(gate_sums[t], up_sums[t], gate->y + t * gate->y_stride + row, n);
  }
}

}  // namespace cria::CRIA_ISA
