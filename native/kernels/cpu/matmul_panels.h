// Matrix-matrix products of quantized weights on AVX-512 VNNI, with the bits of matmul.h. Compiled per level.
//
// 32 rows are unpacked once into a panel of unsigned bytes, four columns to a dword and rows in lanes, which
// stays in L2; then tiles of up to six tokens run over all columns: each broadcast of four activations meets
// two registers of rows. Signed formats become unsigned by an offset, which is taken off through the
// activations' sums.
#pragma once

#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/swiglu.h"

namespace cria::CRIA_ISA {

constexpr int kPanelRows = 32;
constexpr int kPanelTokens =
    6;  // 12 accumulators of 16 rows, as many sums, 2 weights, 1 broadcast: 27 of 32 registers

typedef int32_t __attribute__((may_alias, aligned(1))) DwordAnywhere;
typedef int16_t __attribute__((may_alias, aligned(1))) WordAnywhere;

/// 32 rows of a block of 32 columns.
struct Panel32 {
  uint8_t q[8][4 * kPanelRows];  // [column / 4][row * 4 + column % 4]
  float d[kPanelRows];
  float m[kPanelRows];  // formats with a minimum
};

/// 32 rows of a super-block of 256 columns. Scales are those of groups of 32, or of 16 when kGroups is 16.
template <int kGroups>
struct Panel256 {
  uint8_t q[8][8][4 * kPanelRows];  // [group of 32][column % 32 / 4][row * 4 + column % 4]
  int32_t scale[kGroups][kPanelRows];
  int16_t with_sums[8][kPanelRows]
                   [2];  // what meets the sums of 16 activations, by twos: the mins, or the scales
  float d[kPanelRows];
  float minus_dmin[kPanelRows];
};

// r[i]: 16 dwords of row i -> r[k]: dword k of 16 rows.
CRIA_INLINE void transpose16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 2; j++) {
      r[4 * i + 2 * j] = _mm512_unpacklo_epi64(t[4 * i + j], t[4 * i + 2 + j]);
      r[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(t[4 * i + j], t[4 * i + 2 + j]);
    }
  }
  for (int i = 0; i < 4; i++) {
    for (int h = 0; h < 2; h++) {
      t[8 * h + i] = _mm512_shuffle_i32x4(r[8 * h + i], r[8 * h + i + 4], 0x88);
      t[8 * h + i + 4] = _mm512_shuffle_i32x4(r[8 * h + i], r[8 * h + i + 4], 0xdd);
    }
  }
  for (int i = 0; i < 8; i++) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

CRIA_INLINE __m512i unsigned_bytes(I8x32 first, I8x32 second, bool is_signed) {
  const __m512i bytes = _mm512_inserti64x4(_mm512_castsi256_si512(first.v), second.v, 1);
  return is_signed ? _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(0x80))) : bytes;
}

// ---- unpacking: rows beyond the last repeat it; their results are not stored ----

struct RowPointers {
  const uint8_t* row[kPanelRows];
};

template <class F>
static void unpack_panel32(const RowPointers& rows, int64_t blocks, void* scratch) {
  using Block = typename F::Block;
  auto* panels = static_cast<Panel32*>(scratch);
  for (int64_t b = 0; b < blocks; b += 2) {
    const bool two = b + 1 < blocks;
    for (int half = 0; half < 2; half++) {
      __m512i r[16];
      alignas(16) uint16_t d[2][16], m[2][16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) {
        const Block* block = reinterpret_cast<const Block*>(rows.row[16 * half + i]) + b;
        const Block* next = block + (two ? 1 : 0);
        r[i] = unsigned_bytes(F::bytes(*block), F::bytes(*next), F::kSigned);
        d[0][i] = block->d;
        d[1][i] = next->d;
        if constexpr (F::kHasMin) {
          m[0][i] = block->m;
          m[1][i] = next->m;
        }
      }
      transpose16(r);
      for (int j = 0; j <= (two ? 1 : 0); j++) {
        Panel32& p = panels[b + j];
        for (int k = 0; k < 8; k++) _mm512_store_si512(p.q[k] + 64 * half, r[8 * j + k]);
        store(p.d + 16 * half, load_f16(d[j]));
        if constexpr (F::kHasMin) store(p.m + 16 * half, load_f16(m[j]));
      }
    }
  }
}

template <class F>
static void unpack_panel256(const RowPointers& rows, int64_t blocks, void* scratch) {
  using Block = typename F::Block;
  constexpr int kRepeat = 16 / F::kGroups;
  auto* panels = static_cast<Panel256<F::kGroups>*>(scratch);
  for (int64_t b = 0; b < blocks; b++) {
    Panel256<F::kGroups>& p = panels[b];
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; pair++) {
        __m512i r[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
          I8x32 first, second;
          F::pair(*(reinterpret_cast<const Block*>(rows.row[16 * half + i]) + b), pair, first, second);
          r[i] = unsigned_bytes(first, second, F::kSigned);
        }
        transpose16(r);
        for (int k = 0; k < 16; k++) _mm512_store_si512(p.q[2 * pair + k / 8][k % 8] + 64 * half, r[k]);
      }
    }
    alignas(16) uint16_t d[kPanelRows], dmin[kPanelRows];
    for (int i = 0; i < kPanelRows; i++) {
      const Block& block = *(reinterpret_cast<const Block*>(rows.row[i]) + b);
      int16_t scale[16], min[16];
      F::scales(block, scale, min);
      for (int g = 0; g < F::kGroups; g++) p.scale[g][i] = scale[g];
      const int16_t* with_sums = F::kHasMin ? min : scale;
      for (int g = 0; g < 16; g++) p.with_sums[g / 2][i][g % 2] = with_sums[g / kRepeat];
      d[i] = block.d;
      dmin[i] = min_scale(block);
    }
    for (int half = 0; half < 2; half++) {
      store(p.d + 16 * half, load_f16(d + 16 * half));
      if constexpr (F::kHasMin) store(p.minus_dmin + 16 * half, sub(set1(0.0f), load_f16(dmin + 16 * half)));
    }
  }
}

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
      acc[t][0] = _mm512_dpbusd_epi32(k ? acc[t][0] : _mm512_setzero_si512(), w0, v);
      acc[t][1] = _mm512_dpbusd_epi32(k ? acc[t][1] : _mm512_setzero_si512(), w1, v);
    }
  }
}

struct PanelTile {
  const void* panels;
  int64_t blocks;
  const ActivationRows* x;
  int64_t token;
  int offset;  // of the unsigned bytes; 0 for formats with a minimum
  float (*out)[kPanelRows];
};

template <bool kHasMin, int kTokens>
static void tile_panel32(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto* panels = static_cast<const Panel32*>(tile.panels);
  __m512 acc[kTokens][2];
  const int8_t* q[kTokens];
  for (int t = 0; t < kTokens; t++) {
    acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    q[t] = x.q + (tile.token + t) * x.cols;
  }
  const float* scale = x.scale + tile.token * x.scale_stride;
  const int16_t* sums = x.sums16 + tile.token * x.sums_stride;
  for (int64_t b = 0; b < tile.blocks; b++) {
    const Panel32& p = panels[b];
    __m512i isum[kTokens][2];
    multiply_group<kTokens, 8>(p.q[0], q, 32 * b, isum);
    const __m512 d0 = _mm512_load_ps(p.d), d1 = _mm512_load_ps(p.d + 16);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      if constexpr (!kHasMin) {
        const int16_t* s = sums + t * x.sums_stride + 2 * b;
        const __m512i off = _mm512_set1_epi32(tile.offset * (s[0] + s[1]));
        isum[t][0] = _mm512_sub_epi32(isum[t][0], off);
        isum[t][1] = _mm512_sub_epi32(isum[t][1], off);
      }
      const __m512 dx = _mm512_set1_ps(scale[t * x.scale_stride + b]);
      acc[t][0] = _mm512_fmadd_ps(_mm512_mul_ps(d0, dx), _mm512_cvtepi32_ps(isum[t][0]), acc[t][0]);
      acc[t][1] = _mm512_fmadd_ps(_mm512_mul_ps(d1, dx), _mm512_cvtepi32_ps(isum[t][1]), acc[t][1]);
      if constexpr (kHasMin) {
        const __m512 sx = _mm512_set1_ps(x.weighted_sum[(tile.token + t) * x.scale_stride + b]);
        acc[t][0] = _mm512_fmadd_ps(_mm512_load_ps(p.m), sx, acc[t][0]);
        acc[t][1] = _mm512_fmadd_ps(_mm512_load_ps(p.m + 16), sx, acc[t][1]);
      }
    }
  }
  for (int t = 0; t < kTokens; t++) {
    _mm512_storeu_ps(tile.out[t], acc[t][0]);
    _mm512_storeu_ps(tile.out[t] + 16, acc[t][1]);
  }
}

template <int kGroups, bool kHasMin, int kTokens>
static void tile_panel256(const PanelTile& tile) {
  const ActivationRows& x = *tile.x;
  const auto* panels = static_cast<const Panel256<kGroups>*>(tile.panels);
  __m512 acc[kTokens][2];
  const int8_t* q[kTokens];
  for (int t = 0; t < kTokens; t++) {
    acc[t][0] = acc[t][1] = _mm512_setzero_ps();
    q[t] = x.q + (tile.token + t) * x.cols;
  }
  const float* scale = x.scale + tile.token * x.scale_stride;
  const int16_t* sums = x.sums16 + tile.token * x.sums_stride;
  for (int64_t b = 0; b < tile.blocks; b++) {
    const Panel256<kGroups>& p = panels[b];
    __m512i isum[kTokens][2];
    for (int t = 0; t < kTokens; t++) isum[t][0] = isum[t][1] = _mm512_setzero_si512();
    for (int g = 0; g < 8; g++) {
      asm("" : "+r"(g));  // a real loop: unrolled it overflows the cache of decoded instructions
      constexpr int kParts = kGroups / 8, kSteps = 8 / kParts;
#pragma GCC unroll 2
      for (int part = 0; part < kParts; part++) {
        __m512i products[kTokens][2];
        multiply_group<kTokens, kSteps>(p.q[g][kSteps * part], q, 256 * b + 32 * g + 4 * kSteps * part,
                                        products);
        const int32_t* s = p.scale[kParts * g + part];
        const __m512i s0 = _mm512_load_si512(s), s1 = _mm512_load_si512(s + 16);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; t++) {
          isum[t][0] = _mm512_add_epi32(isum[t][0], _mm512_mullo_epi32(products[t][0], s0));
          isum[t][1] = _mm512_add_epi32(isum[t][1], _mm512_mullo_epi32(products[t][1], s1));
        }
      }
    }
    const __m512i offset = _mm512_set1_epi32(tile.offset);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; t++) {
      const int16_t* token_sums = sums + t * x.sums_stride + 16 * b;
      __m512i m[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      for (int j = 0; j < 8; j++) {
        const __m512i v = _mm512_set1_epi32(*reinterpret_cast<const DwordAnywhere*>(token_sums + 2 * j));
        m[0] = _mm512_dpwssd_epi32(m[0], _mm512_load_si512(p.with_sums[j][0]), v);
        m[1] = _mm512_dpwssd_epi32(m[1], _mm512_load_si512(p.with_sums[j][16]), v);
      }
      const __m512 dx = _mm512_set1_ps(scale[t * x.scale_stride + b]);
      for (int h = 0; h < 2; h++) {
        const __m512 d = _mm512_load_ps(p.d + 16 * h);
        if constexpr (kHasMin) {
          const __m512 step = _mm512_fmadd_ps(_mm512_load_ps(p.minus_dmin + 16 * h), _mm512_cvtepi32_ps(m[h]),
                                              _mm512_mul_ps(d, _mm512_cvtepi32_ps(isum[t][h])));
          acc[t][h] = _mm512_fmadd_ps(dx, step, acc[t][h]);
        } else {
          const __m512i sum = _mm512_sub_epi32(isum[t][h], _mm512_mullo_epi32(m[h], offset));
          acc[t][h] = _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(sum), acc[t][h]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; t++) {
    _mm512_storeu_ps(tile.out[t], acc[t][0]);
    _mm512_storeu_ps(tile.out[t] + 16, acc[t][1]);
  }
}

// ---- by format ----

struct PanelFormat {
  void (*unpack)(const RowPointers& rows, int64_t blocks, void* scratch);
  void (*tiles[kPanelTokens])(const PanelTile& tile);  // [tokens - 1]
  int block_size;
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
          sizeof(Panel32),
          F::kSigned ? 128 : F::kOffset};
}

template <class F>
CRIA_INLINE PanelFormat panel_format256() {
  constexpr int kG = F::kGroups;
  constexpr bool kMin = F::kHasMin;
  return {unpack_panel256<F>,
          {tile_panel256<kG, kMin, 1>, tile_panel256<kG, kMin, 2>, tile_panel256<kG, kMin, 3>,
           tile_panel256<kG, kMin, 4>, tile_panel256<kG, kMin, 5>, tile_panel256<kG, kMin, 6>},
          kSuperBlockSize,
          sizeof(Panel256<kG>),
          F::kSigned ? 128 : F::kOffset};
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

static size_t panel_scratch_bytes(DType dtype, int64_t cols) {
  const PanelFormat f = panel_format(dtype);
  return f.unpack ? static_cast<size_t>(cols / f.block_size) * f.panel_bytes : 0;
}

struct PanelRun {
  PanelFormat format;
  const MatmulRows* args;
  uint8_t* scratch;

  PanelRun(const MatmulRows* a, uint8_t* memory) : format(panel_format(a->dtype)), args(a), scratch(memory) {}

  inline __attribute__((always_inline)) void unpack(int64_t row, int64_t row_end, int64_t row_bytes) const {
    RowPointers rows;
    for (int i = 0; i < kPanelRows; i++)
      rows.row[i] = args->weights + (row + i < row_end ? row + i : row_end - 1) * row_bytes;
    format.unpack(rows, args->cols / format.block_size, scratch);
  }
  inline __attribute__((always_inline)) void multiply(int64_t token, int count,
                                                      float (*out)[kPanelRows]) const {
    format.tiles[count - 1]({scratch, args->cols / format.block_size, &args->x, token, format.offset, out});
  }
};

/// Calls body(first token, count) for even shares of at most kPanelTokens: 16 tokens are 6 + 5 + 5, never 6 +
/// 6 + 4.
template <class Body>
CRIA_INLINE void for_token_tiles(int64_t n, Body body) {
  const int64_t tiles = (n + kPanelTokens - 1) / kPanelTokens;
  int64_t token = 0;
  for (int64_t i = 0; i < tiles; i++) {
    const int count = static_cast<int>(n / tiles + (i < n % tiles ? 1 : 0));
    body(token, count);
    token += count;
  }
}

/// Rows [row_begin, row_end), at most 32, for all tokens. `scratch`: panel_scratch_bytes, aligned to 64.
static void matmul_panel(const MatmulRows* args, int64_t row_begin, int64_t row_end, uint8_t* scratch) {
  const PanelRun run(args, scratch);
  run.unpack(row_begin, row_end, bytes_per_row(args->dtype, args->cols));
  const int n = static_cast<int>(row_end - row_begin);
  for_token_tiles(args->n_tokens, [&](int64_t token, int count) {
    alignas(64) float out[kPanelTokens][kPanelRows];
    run.multiply(token, count, out);
    for (int t = 0; t < count; t++) {
      float* y = args->y + (token + t) * args->y_stride + row_begin;
      for (int h = 0; h < 2; h++) {
        const int lanes = n - 16 * h;
        if (lanes <= 0) break;
        const F32x16 sum = load(out[t] + 16 * h);
        store(y + 16 * h, args->accumulate ? add(load(y + 16 * h, lanes), sum) : sum, lanes);
      }
    }
  });
}

/// The same rows of gate and up, h = silu(gate) * up written to gate's y. `scratch` holds both panels.
static void gate_up_panel(const MatmulRows* gate, const MatmulRows* up, int64_t row_begin, int64_t row_end,
                          uint8_t* scratch) {
  const PanelRun run_gate(gate, scratch), run_up(up, scratch + panel_scratch_bytes(gate->dtype, gate->cols));
  run_gate.unpack(row_begin, row_end, bytes_per_row(gate->dtype, gate->cols));
  run_up.unpack(row_begin, row_end, bytes_per_row(up->dtype, up->cols));
  for_token_tiles(gate->n_tokens, [&](int64_t token, int count) {
    alignas(64) float out_gate[kPanelTokens][kPanelRows], out_up[kPanelTokens][kPanelRows];
    run_gate.multiply(token, count, out_gate);
    run_up.multiply(token, count, out_up);
    for (int t = 0; t < count; t++)
      silu_mul(out_gate[t], out_up[t], gate->y + (token + t) * gate->y_stride + row_begin,
               row_end - row_begin);
  });
}

}  // namespace cria::CRIA_ISA
