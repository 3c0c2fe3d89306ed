// Products of quantized weights with any number of tokens. Compiled once per ISA level.
//
// Weights come repacked (repack.h): a vector load brings four columns of sixteen rows (a dword of each), and
// is multiplied with four activations of a token, broadcast. Loop order, outermost first:
//
//   panel of 32 rows      sum_panel(); its sums of all tokens are in L1 or L2
//   run of blocks         256 columns in L1, or 2048 in L2, while the next run is prefetched
//   tile of tokens        up to twelve, whose sums are in registers (matmul_panel_tiles.h)
//   block, group, dword   in the order of the columns; a dword is four of them
//
// Weights that were adopted in the file's layout are repacked a run at a time, into scratch. So are panels of
// codes, for more tokens than streaming ones, widened to bytes (matmul_widen.h).
//
// Order of summation (docs/numerics.md): a float accumulator per output element, which takes one fma per
// block (k-quants with mins, and blocks with a scale for every 16 columns: two), in the order of the columns:
// a "float step". Sums of integers are exact.
#pragma once

#include "kernels/cpu/matmul_repack.h"
#include "kernels/cpu/matmul_scaled.h"
#include "kernels/cpu/matmul_stream.h"
#include "kernels/cpu/matmul_widen.h"

namespace cria::CRIA_ISA {

// ---- the tile functions of each format ----

using PanelTileFunction = void (*)(const PanelTile& tile);

struct PanelKernels {
  /// Indexed by a tile's tokens - 1. `stream`: for so few that memory is the bound (matmul_stream.h).
  PanelTileFunction stream[kStreamTokens], tiles[kMaxTokens];
  /// Tokens of the largest tile.
  int max_tokens;
  /// Columns of a block; blocks of a run that stays in L1; blocks of a run that stays in L2.
  int block_size, l1_blocks, l2_blocks;
  /// Bytes of one block of all 32 rows of a panel, and of a file.
  int64_t block_bytes, file_block_bytes;
  /// Panels of codes: tiles read what this makes of a run, blocks of wide_block_size columns. Else null.
  void (*widen)(const uint8_t* panel, int64_t n_blocks, uint8_t* out) = nullptr;
  int wide_block_size = 0;
  int64_t wide_block_bytes = 0;
};

// Fill kernels.tiles and kernels.stream for 1 .. kTokens tokens.
template <class F, int kTokens>
CRIA_INLINE void add_tiles32(PanelKernels& kernels) {
  kernels.tiles[kTokens - 1] = tile_blocks32<F, kTokens>;
  if constexpr (kTokens <= kStreamTokens) kernels.stream[kTokens - 1] = tile_blocks32<F, kTokens>;
  if constexpr (kTokens > 1) add_tiles32<F, kTokens - 1>(kernels);
}
template <class F, int kTokens>
CRIA_INLINE void add_tiles256(PanelKernels& kernels) {
  kernels.tiles[kTokens - 1] = tile_blocks256<F, kTokens>;
  if constexpr (kTokens > 1) add_tiles256<F, kTokens - 1>(kernels);
}

template <class F, int kTokens>
CRIA_INLINE void add_scaled_tiles(PanelTileFunction* tiles) {
  tiles[kTokens - 1] = tile_scaled32<F, kTokens>;
  if constexpr (kTokens > 1) add_scaled_tiles<F, kTokens - 1>(tiles);
}
template <class F, int kTokens>
CRIA_INLINE void add_streams256(PanelKernels& kernels) {
  kernels.stream[kTokens - 1] = stream_blocks256<F, kTokens>;
  if constexpr (kTokens > 1) add_streams256<F, kTokens - 1>(kernels);
}

/// What the kernels of a format have in common: runs of 256 columns in L1, of kMaxRunColumns in L2.
template <class Block>
CRIA_INLINE PanelKernels panel_kernels_of(int max_tokens) {
  using P = PanelBlock<Block>;
  return {.max_tokens = max_tokens,
          .block_size = P::kElements,
          .l1_blocks = kSuperBlockSize / P::kElements,
          .l2_blocks = P::kElements < kSuperBlockSize ? kMaxRunBlocks * kBlockSize / P::kElements : 1,
          .block_bytes = kPanelBlockBytes<PanelFormat<P>>,
          .file_block_bytes = kPanelRows * static_cast<int64_t>(sizeof(Block))};
}

template <class Block>
CRIA_INLINE PanelKernels blocks32() {
  PanelKernels kernels = panel_kernels_of<Block>(kMaxTokens32);
  add_tiles32<PanelFormat<Block>, kMaxTokens32>(kernels);
  return kernels;
}
template <class Block>
CRIA_INLINE PanelKernels blocks256() {
  PanelKernels kernels = panel_kernels_of<Block>(kMaxTokens);
  add_tiles256<PanelFormat<Block>, kMaxTokens>(kernels);
  add_streams256<PanelFormat<Block>, kStreamTokens>(kernels);
  return kernels;
}
template <class Block>
CRIA_INLINE PanelKernels codes256() {
  using F = PanelFormat<PanelBlock<Block>>;
  PanelKernels kernels = panel_kernels_of<Block>(kMaxTokens);
  add_streams256<F, kStreamTokens>(kernels);
  add_tiles256<PanelFormat<BlockK8>, kMaxTokens>(kernels);
  kernels.widen = widen_blocks256<F>;
  kernels.wide_block_size = BlockK8::kElements;
  kernels.wide_block_bytes = kPanelBlockBytes<PanelFormat<BlockK8>>;
  return kernels;
}
template <class Block>
CRIA_INLINE PanelKernels scaled32() {
  using F = PanelFormat<PanelBlock<Block>>;
  PanelKernels kernels = panel_kernels_of<Block>(kMaxTokensScaled);
  add_scaled_tiles<F, kStreamTokens>(kernels.stream);
  add_scaled_tiles<PanelFormat<BlockS8>, kMaxTokensScaled>(kernels.tiles);
  kernels.widen = widen_blocks32<F>;
  kernels.wide_block_size = BlockS8::kElements;
  kernels.wide_block_bytes = kPanelBlockBytes<PanelFormat<BlockS8>>;
  return kernels;
}

static PanelKernels panel_kernels(DType dtype) {
  return visit_dtype(dtype, [](auto format) -> PanelKernels {
    using Block = typename decltype(format)::Block;
    if constexpr (!kIsRepacked<Block>)
      return {};
    else if constexpr (requires { PanelFormat<PanelBlock<Block>>::kParts; })
      return scaled32<Block>();
    else if constexpr (Block::kElements == kBlockSize)
      return blocks32<Block>();
    else if constexpr (requires { PanelFormat<PanelBlock<Block>>::kIsWidened; })
      return codes256<Block>();
    else
      return blocks256<Block>();
  });
}

/// Up to kMaxL1Tokens tokens, a run is 256 columns and stays in L1. With more, formats with blocks of 32 use
/// runs of 2048: setting up a tile costs more than reading the weights from L2. Streaming tiles always take
/// kStreamColumns at once.
constexpr int64_t kMaxL1Tokens = 32, kStreamColumns = 2048;
/// Bytes from the end of the current run to what its tiles prefetch (docs/performance.md).
constexpr int64_t kPrefetchAhead = 4096;

/// Bytes of scratch for one run that is repacked on the fly.
CRIA_INLINE int64_t repacked_run_bytes(const PanelKernels& f) {
  return kStreamColumns / f.block_size * f.block_bytes;
}
/// The same, and for one that is widened.
static int64_t panel_scratch_bytes(DType dtype) {
  const PanelKernels f = panel_kernels(dtype);
  return repacked_run_bytes(f) + (f.widen ? kStreamColumns / f.wide_block_size * f.wide_block_bytes : 0);
}

/// One panel: sums[t][r] = row (row + r) of the weights times token t, for rows up to row_end, 32 at most.
/// `scratch`: panel_scratch_bytes(), aligned to 64.
static void sum_panel(const MatmulRows& args, int64_t row, int64_t row_end, uint8_t* scratch,
                      float (*sums)[kPanelRows]) {
  const PanelKernels format = panel_kernels(args.dtype);
  __builtin_memset(sums, 0, static_cast<size_t>(args.n_tokens) * sizeof *sums);

  const bool stream = args.n_tokens <= kStreamTokens, many = args.n_tokens > kMaxL1Tokens;
  const PanelTileFunction* functions = stream ? format.stream : format.tiles;
  const int64_t blocks = args.cols / format.block_size;
  const int64_t panel_bytes = blocks * format.block_bytes, file_bytes = blocks * format.file_block_bytes;
  const int64_t at_once = stream ? kStreamColumns / format.block_size
                          : many ? format.l2_blocks
                                 : format.l1_blocks;
  const uint8_t* panel = args.weights + row / kPanelRows * (args.repacked ? panel_bytes : file_bytes);
  RowPointers rows;
  rows.count = static_cast<int>(row_end - row < kPanelRows ? row_end - row : kPanelRows);
  for (int i = 0; i < rows.count; i++) rows.row[i] = panel + i * (file_bytes / kPanelRows);
  // A tile's blocks in one of the panel.
  const bool widened = format.widen && !stream;
  const int64_t ratio = widened ? format.block_size / format.wide_block_size : 1;

  // Even shares: 32 tokens are 11 + 11 + 10, never 12 + 12 + 8.
  const int64_t tiles = (args.n_tokens + format.max_tokens - 1) / format.max_tokens;
  const int64_t share = args.n_tokens / tiles, with_one_more = args.n_tokens % tiles;
  // Each tile prefetches its share of a later run; in the file's layout, of the next 32 rows. Streaming tiles
  // leave that to the hardware prefetcher or, in the file's layout, to repack_ahead().
  const int64_t prefetch_bytes = stream ? 0 : (at_once * format.block_bytes / 64 + tiles - 1) / tiles * 64;
  const int64_t distance = args.repacked ? at_once * format.block_bytes + kPrefetchAhead : file_bytes;
  for (int64_t b = 0; b < blocks; b += at_once) {
    const int count = static_cast<int>(blocks - b < at_once ? blocks - b : at_once);
    const uint8_t* run = panel + b * (args.repacked ? format.block_bytes : format.file_block_bytes);
    const uint8_t* ahead = run + distance;
    if (!args.repacked) {
      repack_ahead(args.dtype, rows, b, count, scratch, stream ? ahead : nullptr);
      run = scratch;
    }
    if (widened) {
      uint8_t* wide = scratch + repacked_run_bytes(format);
      format.widen(run, count, wide);
      run = wide;
    }
    int64_t token = 0;
    for (int64_t i = 0; i < tiles; i++) {
      const int64_t tokens = share + (i < with_one_more ? 1 : 0);
      const uint8_t* next = ahead + i * prefetch_bytes;
      functions[tokens - 1]({.panel = run,
                             .first_block = b * ratio,
                             .blocks = static_cast<int>(count * ratio),
                             .x = &args.x,
                             .n_tokens = args.n_tokens,
                             .token = token,
                             .sums = sums + token,
                             .prefetcher = {.next = next, .end = next + prefetch_bytes}});
      token += tokens;
    }
  }
}

}  // namespace cria::CRIA_ISA
