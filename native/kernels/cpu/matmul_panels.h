// Products of quantized weights with any number of tokens. Compiled per level.
//
// Weights come repacked (repack.h): 32 rows at a time, a vector load brings four columns of sixteen
// rows, and a broadcast of four activations meets them. Tiles of a few tokens add a panel's blocks to their
// sums, one run of blocks after the other, so that the run stays in L1 for all tiles; meanwhile the bytes
// ahead are fetched, a few lines at a time. Weights in the file's layout are repacked into scratch first,
// a run at a time.
//
// Order of summation (docs/numerics.md): an accumulator per output element, one float step per block
// (k-quants with mins: two), in the order of the columns. Sums of integers are exact.
#pragma once

#include "kernels/cpu/matmul_repack.h"
#include "kernels/cpu/matmul_stream.h"

namespace cria::CRIA_ISA {

// ---- by format ----

using PanelTileFunction = void (*)(const PanelTile& tile);

struct PanelFormat {
  // [tokens - 1]: for few tokens that stream, and for any number.
  PanelTileFunction stream[kStreamTokens], tiles[kMaxTokens];
  int most_tokens;                          // of a tile
  int block_size, few_blocks, many_blocks;  // blocks of a run: for few tokens, and for many
  int64_t block_bytes;                      // of a panel's block
};

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
  PanelFormat format{{}, {}, kMaxTokens32, kBlockSize, 8, kManyBlocks, kPanelBlockBytes<F>};
  add_tiles32<F, kMaxTokens32>(format);
  return format;
}
template <class F>
CRIA_INLINE PanelFormat blocks256() {
  PanelFormat format{{}, {}, kMaxTokens, kSuperBlockSize, 1, 1, kPanelBlockBytes<F>};
  add_tiles256<F, kMaxTokens>(format);
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

/// Scratch for a run that was repacked.
static int64_t panel_scratch_bytes(DType dtype) {
  const PanelFormat f = panel_format(dtype);
  return kStreamColumns / f.block_size * f.block_bytes;
}

/// The sums of rows [row, row + 32) with all tokens. `scratch`: panel_scratch_bytes, aligned to 64.
static void sum_panel(const MatmulRows& args, int64_t row, int64_t row_end, uint8_t* scratch,
                      float (*sums)[kPanelRows]) {
  const PanelFormat format = panel_format(args.dtype);
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

  // Even shares: 32 tokens are 11 + 11 + 10, never 12 + 12 + 8.
  const int64_t tiles = (args.n_tokens + format.most_tokens - 1) / format.most_tokens;
  const int64_t share = args.n_tokens / tiles, with_one_more = args.n_tokens % tiles;
  // Each tile fetches its share of what comes after the run; in the file's layout, of the next 32 rows. For
  // few tokens the processor itself does, or, in the file's layout, repacking.
  const int64_t fetched_by_each = stream ? 0 : (at_once * format.block_bytes / 64 + tiles - 1) / tiles * 64;
  const int64_t lead = args.repacked ? at_once * format.block_bytes + kFetchAhead : kPanelRows * row_bytes;
  for (int64_t b = 0; b < blocks; b += at_once) {
    const int count = static_cast<int>(blocks - b < at_once ? blocks - b : at_once);
    const uint8_t* run = panel + b * format.block_bytes;
    const uint8_t* ahead = run + lead;
    if (!args.repacked) {
      repack_ahead(args.dtype, rows, b, count, scratch, stream ? ahead : nullptr);
      run = scratch;
    }
    int64_t token = 0;
    for (int64_t i = 0; i < tiles; i++) {
      const int64_t tokens = share + (i < with_one_more ? 1 : 0);
      const uint8_t* next = ahead + i * fetched_by_each;
      functions[tokens - 1](
          {run, b, count, &args.x, args.n_tokens, token, sums + token, {next, next + fetched_by_each}});
      token += tokens;
    }
  }
}

}  // namespace cria::CRIA_ISA
