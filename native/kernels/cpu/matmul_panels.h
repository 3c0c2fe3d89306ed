// Products of quantized weights with many tokens on AVX-512 VNNI, with the bits of matmul.h. Compiled per
// level.
//
// 32 rows by 256 or 512 columns at a time are unpacked into a panel of unsigned bytes, four columns to a
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

/// acc += rows x 4 * kSteps columns, for kTokens tokens at x[t].
template <int kTokens, int kSteps>
CRIA_INLINE void multiply_group(const uint8_t* q, const int8_t* const* x, int64_t at, __m512i acc[][2]) {
#pragma GCC unroll 8
  for (int k = 0; k < kSteps; k++) {
    __m512i w0 = _mm512_load_si512(q + 128 * k), w1 = _mm512_load_si512(q + 128 * k + 64);
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
  int64_t token;
  int offset;                 // of the unsigned bytes; 0 for formats with a minimum
  float (*sums)[kPanelRows];  // of the columns before, to which the panel's are added
  Fetch fetch;
};

template <bool kHasMin, int kTokens>
static void tile_panel32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto& p = *static_cast<const Panel32*>(tile.panel);
  __m512 acc[kTokens][2];
  const int8_t* q[kTokens];
  // A block's scale, and where its sum starts: at what the offset of the bytes adds to it, or (kHasMin) what
  // its minimum meets.
  alignas(64) float scale[kTokens][kPanelBlocks], weighted[kTokens][kPanelBlocks];
  alignas(64) int32_t start[kTokens][kPanelBlocks];
  const __mmask16 present = first_lanes(tile.blocks);
  for (int t = 0; t < kTokens; t++) {
    const int64_t token = tile.token + t, at = token * x.scale_stride + tile.first_block;
    acc[t][0] = _mm512_load_ps(tile.sums[t]);
    acc[t][1] = _mm512_load_ps(tile.sums[t] + 16);
    q[t] = x.q + token * x.cols + kBlockSize * tile.first_block;
    _mm512_store_ps(scale[t], _mm512_maskz_loadu_ps(present, x.scale + at));
    if constexpr (kHasMin) {
      _mm512_store_ps(weighted[t], _mm512_maskz_loadu_ps(present, x.weighted_sum + at));
    } else {
      const int16_t* sums = x.sums16 + token * x.sums_stride + 2 * tile.first_block;
      const __m512i minus = _mm512_set1_epi16(static_cast<short>(-tile.offset));
      _mm512_store_si512(start[t], _mm512_madd_epi16(_mm512_maskz_loadu_epi32(present, sums), minus));
    }
  }
  Fetch fetch = tile.fetch;
  for (int b = 0; b < tile.blocks; b++) {
    fetch.step();
    __m512i isum[kTokens][2];
    for (int t = 0; t < kTokens; t++)
      isum[t][0] = isum[t][1] = kHasMin ? _mm512_setzero_si512() : _mm512_set1_epi32(start[t][b]);
    multiply_group<kTokens, 8>(p.q[b][0], q, 32 * b, isum);
    const __m512 d0 = _mm512_load_ps(p.d[b]), d1 = _mm512_load_ps(p.d[b] + 16);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const __m512 dx = _mm512_set1_ps(scale[t][b]);
      acc[t][0] = _mm512_fmadd_ps(_mm512_mul_ps(d0, dx), _mm512_cvtepi32_ps(isum[t][0]), acc[t][0]);
      acc[t][1] = _mm512_fmadd_ps(_mm512_mul_ps(d1, dx), _mm512_cvtepi32_ps(isum[t][1]), acc[t][1]);
      if constexpr (kHasMin) {
        const __m512 sx = _mm512_set1_ps(weighted[t][b]);
        acc[t][0] = _mm512_fmadd_ps(_mm512_load_ps(p.m[b]), sx, acc[t][0]);
        acc[t][1] = _mm512_fmadd_ps(_mm512_load_ps(p.m[b] + 16), sx, acc[t][1]);
      }
    }
  }
  for (int t = 0; t < kTokens; t++) {
    _mm512_store_ps(tile.sums[t], acc[t][0]);
    _mm512_store_ps(tile.sums[t] + 16, acc[t][1]);
  }
}

/// A token's sums of a super-block's groups, two words to a dword.
template <int kGroups>
CRIA_INLINE void group_sums(const int16_t* sums16, int32_t pairs[kGroups / 2]) {
  const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums16));
  if constexpr (kGroups == 16)
    _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), s);
  else  // sums of 32: at most 32 * 127
    _mm_store_si128(reinterpret_cast<__m128i*>(pairs),
                    _mm256_cvtepi32_epi16(_mm256_madd_epi16(s, _mm256_set1_epi16(1))));
}

template <int kGroups, bool kHasMin, int kTokens>
static void tile_panel256(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto& p = *static_cast<const Panel256<kGroups>*>(tile.panel);
  const int8_t* q[kTokens];
  alignas(32) int32_t pairs[kTokens][kGroups / 2];
  for (int t = 0; t < kTokens; t++) {
    q[t] = x.q + (tile.token + t) * x.cols + kSuperBlockSize * tile.first_block;
    group_sums<kGroups>(x.sums16 + (tile.token + t) * x.sums_stride + 16 * tile.first_block, pairs[t]);
  }
  __m512i isum[kTokens][2];
  for (int t = 0; t < kTokens; t++) isum[t][0] = isum[t][1] = _mm512_setzero_si512();
  // What the mins add, or what the offset of the bytes does.
  const auto add_sums = [&](int t, __m512i sum[2]) {
    for (int j = 0; j < kGroups / 2; j++) {
      const __m512i v = _mm512_set1_epi32(pairs[t][j]);
      sum[0] = _mm512_dpwssd_epi32(sum[0], _mm512_load_si512(p.with_sums[j][0]), v);
      sum[1] = _mm512_dpwssd_epi32(sum[1], _mm512_load_si512(p.with_sums[j][16]), v);
    }
  };
  if constexpr (!kHasMin) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) add_sums(t, isum[t]);
  }
  Fetch fetch = tile.fetch;
  for (int g = 0; g < 8; g++) {
    asm("" : "+r"(g));  // a real loop: unrolled it overflows the cache of decoded instructions
    fetch.step();
    constexpr int kParts = kGroups / 8, kSteps = 8 / kParts;
#pragma GCC unroll 2
    for (int part = 0; part < kParts; part++) {
      __m512i products[kTokens][2];
      for (int t = 0; t < kTokens; t++) products[t][0] = products[t][1] = _mm512_setzero_si512();
      multiply_group<kTokens, kSteps>(p.q[g][kSteps * part], q, 32 * g + 4 * kSteps * part, products);
      const int32_t* s = p.scale[kParts * g + part];
      const __m512i s0 = _mm512_load_si512(s), s1 = _mm512_load_si512(s + 16);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; t++) {
        isum[t][0] = _mm512_add_epi32(isum[t][0], _mm512_mullo_epi32(products[t][0], s0));
        isum[t][1] = _mm512_add_epi32(isum[t][1], _mm512_mullo_epi32(products[t][1], s1));
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; t++) {
    const __m512 dx = _mm512_set1_ps(x.scale[(tile.token + t) * x.scale_stride + tile.first_block]);
    __m512i m[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if constexpr (kHasMin) add_sums(t, m);
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

struct PanelFormat {
  void (*unpack)(const RowPointers& rows, int64_t first_block, int blocks, void* panel);
  void (*tiles[kPanelTokens])(const PanelTile& tile);  // [tokens - 1]
  int block_size, few_blocks, many_blocks;             // blocks of a panel
  size_t panel_bytes;
  int offset;
};

template <class F>
CRIA_INLINE PanelFormat panel_format32() {
  constexpr bool kMin = F::kHasMin;
  return {unpack_panel32<F>,
          {tile_panel32<kMin, 1>, tile_panel32<kMin, 2>, tile_panel32<kMin, 3>, tile_panel32<kMin, 4>,
           tile_panel32<kMin, 5>, tile_panel32<kMin, 6>},
          kBlockSize,
          kPanelBlocks / 2,
          kPanelBlocks,
          sizeof(Panel32),
          kUnsignedOffset<F>};
}

template <class F>
CRIA_INLINE PanelFormat panel_format256() {
  constexpr int kG = F::kGroups;
  constexpr bool kMin = F::kHasMin;
  return {unpack_panel256<F>,
          {tile_panel256<kG, kMin, 1>, tile_panel256<kG, kMin, 2>, tile_panel256<kG, kMin, 3>,
           tile_panel256<kG, kMin, 4>, tile_panel256<kG, kMin, 5>, tile_panel256<kG, kMin, 6>},
          kSuperBlockSize,
          1,
          1,
          sizeof(Panel256<kG>),
          0};
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

// Up to here the rows' bytes should stay in L1 beside their panel; from here on a tile should be long.
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
  const int64_t blocks = args.cols / format.block_size,
                at_once = args.n_tokens > kFewTokens ? format.many_blocks : format.few_blocks;
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
      format.tiles[tokens - 1](
          {scratch, b, count, &args.x, token, format.offset, sums + token, {ahead + 64 * fetched, now}});
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
