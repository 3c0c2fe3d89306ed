// Products of many tokens: tiles of rows by tokens through shared memory.
//
// A warp accumulates 32 rows by 32 tokens (floats: 64) of the output in registers. The block's
// weights and activations arrive chunk by chunk through cp.async, in up to three stages, in the
// layouts that they have in memory. Lanes read operands with 16-byte loads free of bank conflicts
// (the units of neighbouring tokens lie in opposite halves of 128 bytes), so nothing is
// transposed and ldmatrix is not needed. A weight is unpacked once for the warp's 32 tokens. Sums
// and float steps are those of matmul_vector.cu, so both kernels give a token the same bits.
#pragma once

#include <algorithm>

#include "kernels/cuda/matmul_formats.cuh"
#include "kernels/cuda/matmul_kernels.h"

namespace cria::cuda {

/// Warps of a block along the rows and along the tokens, and stages of its pipeline.
struct TileShape {
  int row_warps, token_warps, stages;
};

/// Warps of a block, at most, where ptxas needs more registers or shared memory is smaller
/// (TilePlan::max_warps). Also those of a group's rows, at most: four along the matrix, two along the tokens.
constexpr int kFewWarps = 8;

template <WeightForm kForm>
struct TilePlan {
  using F = Format<kForm>;
  /// Tiles of a warp: of 16 rows, and of 8 tokens.
  static constexpr int kRowTiles = 2;
  static constexpr int kTokenTiles = F::kFloat ? 8 : 4;
  static constexpr int kWarpRows = 16 * kRowTiles, kWarpTokens = 8 * kTokenTiles;
  /// Warps of a block on a device of this major version, as many as registers allow without a spill.
  static constexpr int max_warps(int major) {
    const bool few = major < 8 || major >= 12 || (major == 10 && !F::kBlocks32);
    return F::kFloat || few ? kFewWarps : F::kBlocks32 ? 16 : 12;
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  /// mma_bf16 is hundreds of instructions there: matmul() takes another kernel.
  static constexpr bool kServed = kForm != WeightForm::bf16;
#else
  static constexpr bool kServed = true;
#endif
  /// Blocks of a multiprocessor for which ptxas keeps registers; 0: its own choice. Both can spill: the
  /// choice where it wants two blocks, one block where it hoists loads beyond the last register.
  static constexpr int min_blocks(bool grouped, int major) {
    if (grouped) return major == 12 && kForm == WeightForm::k8_min ? 0 : 1;
    return major < 8 || (major >= 10 && kForm == WeightForm::k4) ? 1 : 0;
  }
#ifdef __CUDA_ARCH__
  static constexpr int kMajor = __CUDA_ARCH__ / 100;
#else
  static constexpr int kMajor = 9;
#endif
  static constexpr int kBoundWarps = max_warps(kMajor);
  /// Activation scales of a token's chunk.
  static constexpr int kScales = F::kFloat ? 0 : F::kBlocks32 ? 8 : 1;
  static constexpr int kTokenUnits = F::kActivationBytes / 16;
  static constexpr int kTokenBytes = F::kActivationBytes + (F::kHasMins ? kSumBytes : 0) +
                                     kScales * 4 * (F::kStep == Step::scaled_min ? 2 : 1);
  static constexpr int kTileBytes = F::kLayout.chunk_bytes;
};

/// The parts of a stage as offsets, which take half the registers of pointers.
template <WeightForm kForm>
struct TileStage {
  using Plan = TilePlan<kForm>;
  uint8_t* base;  // weights first
  int tokens, sums, scales;
  CRIA_DEVICE TileStage(uint8_t* begin, int row_tiles, int n_tokens) : base(begin) {
    tokens = row_tiles * Plan::kTileBytes;
    sums = tokens + n_tokens * Plan::F::kActivationBytes;
    scales = sums + (Plan::F::kHasMins ? n_tokens * kSumBytes : 0);
  }
  CRIA_DEVICE float* scale() const { return reinterpret_cast<float*>(base + scales); }
  CRIA_DEVICE float* weighted(int n_tokens) const { return scale() + n_tokens * Plan::kScales; }
};

/// A block's tiles of rows and its tokens. Up to row_tiles and n_tokens of them exist: tiles_left,
/// tokens_left.
struct TileBlock {
  const uint8_t* weights;  // of the first tile
  int row_tiles, tiles_left, n_tokens, tokens_left, first_token, n_chunks;
};

/// Starts copying chunk `chunk` of the block's weights and activations; zeros for tiles and tokens that do
/// not exist.
template <WeightForm kForm>
CRIA_DEVICE void copy_stage(const TileStage<kForm>& stage, const TileBlock& block, const Activations& x,
                            int chunk) {
  using Plan = TilePlan<kForm>;
  using F = Format<kForm>;
  const int threads = static_cast<int>(blockDim.x);
  constexpr int kTileUnits = Plan::kTileBytes / 16;
  for (int i = thread_in_block(); i < block.row_tiles * kTileUnits; i += threads) {
    const int tile = i / kTileUnits, unit = i % kTileUnits;
    const bool valid = tile < block.tiles_left;
    cp_async<16>(stage.base + i * 16,
                 block.weights +
                     (static_cast<int64_t>(valid ? tile : 0) * block.n_chunks + chunk) * Plan::kTileBytes +
                     unit * 16,
                 valid);
  }
  const int64_t first = static_cast<int64_t>(block.first_token) * block.n_chunks + chunk;
  for (int i = thread_in_block(); i < block.n_tokens * Plan::kTokenUnits; i += threads) {
    const int token = i / Plan::kTokenUnits, unit = i % Plan::kTokenUnits;
    const bool valid = token < block.tokens_left;
    const uint8_t* from =
        x.q + (first + static_cast<int64_t>(valid ? token : 0) * block.n_chunks) * F::kActivationBytes +
        unit * 16;
    cp_async<16>(stage.base + stage.tokens + token * F::kActivationBytes + (unit ^ (token & 1) * 4) * 16,
                 from, valid);
  }
  if constexpr (F::kHasMins)
    for (int i = thread_in_block(); i < block.n_tokens * 2; i += threads) {
      const int token = i / 2;
      const bool valid = token < block.tokens_left;
      cp_async<16>(stage.base + stage.sums + i * 16,
                   x.sums + (first + static_cast<int64_t>(valid ? token : 0) * block.n_chunks) * kSumBytes +
                       i % 2 * 16,
                   valid);
    }
  for (int i = thread_in_block(); i < Plan::kScales * block.n_tokens / 4; i += threads) {
    const int scale = i / (block.n_tokens / 4), token = i % (block.n_tokens / 4) * 4;
    const bool valid =
        token < block.tokens_left;  // scales between the last token and the stride are not used
    const int64_t from = static_cast<int64_t>(chunk * Plan::kScales + scale) * x.stride + block.first_token +
                         (valid ? token : 0);
    cp_async<16>(stage.scale() + i * 4, x.scale + from, valid);
    if constexpr (F::kStep == Step::scaled_min)
      cp_async<16>(stage.weighted(block.n_tokens) + i * 4, x.weighted + from, valid);
  }
}

CRIA_DEVICE uint4 load_unit(const uint8_t* shared) { return *reinterpret_cast<const uint4*>(shared); }
CRIA_DEVICE uint32_t load_word(const uint8_t* shared) { return *reinterpret_cast<const uint32_t*>(shared); }
CRIA_DEVICE float2 load_scales(const float* shared) { return *reinterpret_cast<const float2*>(shared); }

/// The two scales of pair j in a row's header of Q4_K or Q5_K, in the low bytes.
CRIA_DEVICE uint32_t six_bit_scales(const uint8_t* header, int j) {
  const uint32_t own = load_word(header + 4), low = j >= 2 ? load_word(header + 12) : 0;
  return k4_scale_word<false>(own, low, j / 2) >> (j % 2 * 16);
}

/// A token's unit, where copy_stage put it.
template <WeightForm kForm>
CRIA_DEVICE uint4 load_token_unit(const uint8_t* tokens, int token, int unit) {
  return load_unit(tokens + token * Format<kForm>::kActivationBytes + (unit ^ (token & 1) * 4) * 16);
}

/// A warp's outputs: fragments C of its tiles of rows and of tokens.
template <WeightForm kForm>
struct TileSums {
  float v[TilePlan<kForm>::kRowTiles][TilePlan<kForm>::kTokenTiles][4];
};
template <class T, int kRowTiles, int kTokenTiles>
CRIA_DEVICE void clear(T (&v)[kRowTiles][kTokenTiles][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; m++)
#pragma unroll
    for (int n = 0; n < kTokenTiles; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) v[m][n][i] = 0;
}

// ---- one chunk. weights: the warp's first tile; first_token: its first token in the block ----

template <WeightForm kForm>
CRIA_DEVICE void multiply_tile_floats(TileSums<kForm>& acc, const TileStage<kForm>& stage,
                                      const uint8_t* weights, int first_token) {
  using Plan = TilePlan<kForm>;
  if constexpr (Plan::kServed) {
    const int lane = lane_in_warp(), g = lane / 4, t = lane % 4;
    uint4 a[Plan::kRowTiles][4];
#pragma unroll
    for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
      for (int s = 0; s < 4; s++) a[m][s] = load_unit(weights + m * Plan::kTileBytes + s * 512 + lane * 16);
#pragma unroll
    for (int n = 0; n < Plan::kTokenTiles; n++) {
      uint4 b[2];
      for (int i = 0; i < 2; i++)
        b[i] = load_token_unit<kForm>(stage.base + stage.tokens, first_token + 8 * n + g, 4 * i + t);
#pragma unroll
      for (int m = 0; m < Plan::kRowTiles; m++) {
        float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < 2; i++) {
          multiply_floats<kForm>(c, a[m][2 * i], b[i].x, b[i].y);
          multiply_floats<kForm>(c, a[m][2 * i + 1], b[i].z, b[i].w);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) acc.v[m][n][i] += c[i];
      }
    }
  }
}

/// The operands of pair j of the warp's rows.
template <WeightForm kForm>
CRIA_DEVICE void load_pair(const uint8_t* weights, int j, uint32_t (&a)[TilePlan<kForm>::kRowTiles][2][4]) {
  using F = Format<kForm>;
  const int lane = lane_in_warp();
#pragma unroll
  for (int m = 0; m < TilePlan<kForm>::kRowTiles; m++) {
    const uint8_t* tile = weights + m * TilePlan<kForm>::kTileBytes;
    uint4 q[F::kPairLoads];
#pragma unroll
    for (int i = 0; i < F::kPairLoads; i++)
      q[i] = load_unit(tile + (j * F::kPairLoads + i) * 512 + lane * 16);
    uint2 high = make_uint2(0, 0);
    if constexpr (kForm == WeightForm::k5) high.x = load_word(tile + 2048 + lane * 16 + j * 4);
    if constexpr (kForm == WeightForm::k6)
      high = *reinterpret_cast<const uint2*>(tile + 2048 + j / 2 * 512 + lane * 16 + j % 2 * 8);
    uint4 book = make_uint4(0, 0, 0, 0);
    if constexpr (F::kCodes) book = load_unit(tile + F::kLayout.book);
    unpack_pair<kForm>(q, high.x, high.y, book, a[m]);
  }
}

template <WeightForm kForm>
CRIA_DEVICE void multiply_tile_blocks32(TileSums<kForm>& acc, const TileStage<kForm>& stage,
                                        const uint8_t* weights, int first_token, int n_tokens,
                                        int groups_left) {
  using F = Format<kForm>;
  using Plan = TilePlan<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
#pragma unroll 1
  for (int j = 0; j < 4; j++) {
    uint32_t a[Plan::kRowTiles][2][4], d[Plan::kRowTiles][2], mins[Plan::kRowTiles][2];
    load_pair<kForm>(weights, j, a);
#pragma unroll
    for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint8_t* own = weights + m * Plan::kTileBytes + (g + 8 * i) * 16 + j * 4;
        d[m][i] = load_word(own + F::kLayout.scales);
        if constexpr (F::kStep == Step::scaled_min) mins[m][i] = load_word(own + F::kLayout.mins);
      }
#pragma unroll
    for (int n = 0; n < Plan::kTokenTiles; n++) {
      const int token = first_token + 8 * n;
      const uint4 unit = load_token_unit<kForm>(stage.base + stage.tokens, token + g, 4 * j + t);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        if (2 * j + half >= groups_left) break;
        const uint32_t b[2] = {half ? unit.z : unit.x, half ? unit.w : unit.y};
        const int at = (2 * j + half) * n_tokens + token + 2 * t;
        const float2 dx = load_scales(stage.scale() + at);
        float2 weighted = make_float2(0.0f, 0.0f);
        if constexpr (F::kStep == Step::scaled_min) weighted = load_scales(stage.weighted(n_tokens) + at);
#pragma unroll
        for (int m = 0; m < Plan::kRowTiles; m++) {
          int32_t s[4] = {kSumOrigin, kSumOrigin, kSumOrigin, kSumOrigin};
          mma_s8(s, a[m][half], b);
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const uint32_t own = d[m][i / 2];
            float& sum = acc.v[m][n][i];
            sum = fmaf((half ? high_half(own) : low_half(own)) * (i % 2 ? dx.y : dx.x),
                       block_sum_of<kForm>(s[i]), sum);
            if constexpr (F::kStep == Step::scaled_min) {
              const uint32_t own_min = mins[m][i / 2];
              sum = fmaf(half ? high_half(own_min) : low_half(own_min), i % 2 ? weighted.y : weighted.x, sum);
            }
          }
        }
      }
    }
  }
}

/// Form s4.
template <WeightForm kForm>
CRIA_DEVICE void multiply_tile_halves(TileSums<kForm>& acc, const TileStage<kForm>& stage,
                                      const uint8_t* weights, int first_token, int n_tokens,
                                      int groups_left) {
  using F = Format<kForm>;
  using Plan = TilePlan<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  const bool bf16 = has_bf16_scales(weights);
#pragma unroll 1
  for (int j = 0; j < 4; j++) {
    uint32_t a[Plan::kRowTiles][2][4];
    uint2 d[Plan::kRowTiles][2];
    load_pair<kForm>(weights, j, a);
#pragma unroll
    for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
      for (int i = 0; i < 2; i++)
        d[m][i] = *reinterpret_cast<const uint2*>(weights + m * Plan::kTileBytes + F::kLayout.scales +
                                                  (g + 8 * i) * F::kLayout.scale_bytes + j * 8);
#pragma unroll
    for (int n = 0; n < Plan::kTokenTiles; n++) {
      const int token = first_token + 8 * n;
      const uint4 unit = load_token_unit<kForm>(stage.base + stage.tokens, token + g, 4 * j + t);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        if (2 * j + half >= groups_left) break;
        const float2 dx = load_scales(stage.scale() + (2 * j + half) * n_tokens + token + 2 * t);
#pragma unroll
        for (int m = 0; m < Plan::kRowTiles; m++) {
          float scaled[4];
          multiply_halves<kForm>(scaled, a[m][half], half ? unit.z : unit.x, half ? unit.w : unit.y,
                                 half ? d[m][0].y : d[m][0].x, half ? d[m][1].y : d[m][1].x, bf16);
#pragma unroll
          for (int i = 0; i < 4; i++) acc.v[m][n][i] = fmaf(i % 2 ? dx.y : dx.x, scaled[i], acc.v[m][n][i]);
        }
      }
    }
  }
}

/// Integer sums of a super-block, scaled by the groups' integer scales.
template <WeightForm kForm>
struct TileIntSums {
  int32_t v[TilePlan<kForm>::kRowTiles][TilePlan<kForm>::kTokenTiles][4];
};

/// sum += the products of pair j.
template <WeightForm kForm>
CRIA_DEVICE void multiply_pair_blocks256(TileIntSums<kForm>& sum, const TileStage<kForm>& stage,
                                         const uint8_t* weights, int first_token, int j) {
  using F = Format<kForm>;
  using Plan = TilePlan<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  uint32_t a[Plan::kRowTiles][2][4], scale[Plan::kRowTiles][2];
  load_pair<kForm>(weights, j, a);
#pragma unroll
  for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint8_t* own = weights + m * Plan::kTileBytes + F::kLayout.scales + (g + 8 * i) * 16;
      scale[m][i] = F::kSixBits ? six_bit_scales(own, j) : load_word(own + j * 4);
    }
#pragma unroll
  for (int n = 0; n < Plan::kTokenTiles; n++) {
    const uint4 b = load_token_unit<kForm>(stage.base + stage.tokens, first_token + 8 * n + g, 4 * j + t);
#pragma unroll
    for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        multiply_group<kForm>(sum.v[m][n], a[m][half], half ? b.z : b.x, half ? b.w : b.y, scale[m][0],
                              scale[m][1], half);
  }
}

/// A lane's two rows of a super-block in a tile: their float scales and, of formats that have them, minima.
template <WeightForm kForm>
struct TileScales {
  float d[2], dmin[2];
  uint32_t mins[2];
  CRIA_DEVICE explicit TileScales(const uint8_t* tile) {
    using F = Format<kForm>;
    const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = g + 8 * i;
      if constexpr (F::kSixBits) {
        const uint4 header = load_unit(tile + F::kLayout.scales + row * 16);
        mins[i] = mins_of_16(k4_scales_of(header), t);
        d[i] = low_half(header.x);
        dmin[i] = high_half(header.x);
      } else if constexpr (F::kHasMins) {
        const uint32_t pair = load_word(tile + F::kLayout.blocks + row * 4);
        mins[i] = load_word(tile + F::kLayout.mins + row * 16 + t * 4);
        d[i] = low_half(pair);
        dmin[i] = high_half(pair);
      } else if constexpr (kForm == WeightForm::c4) {
        d[i] = float_of_bits(load_word(tile + F::kLayout.blocks + row * 4));
      } else {
        d[i] = half_at(tile + F::kLayout.blocks + row * 2);
      }
    }
  }
};

/// The float step of a super-block.
template <WeightForm kForm>
CRIA_DEVICE void take_step_blocks256(TileSums<kForm>& acc, const TileIntSums<kForm>& sum,
                                     const TileStage<kForm>& stage, const uint8_t* weights, int first_token) {
  using F = Format<kForm>;
  using Plan = TilePlan<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
#pragma unroll
  for (int m = 0; m < Plan::kRowTiles; m++) {
    const TileScales<kForm> own(weights + m * Plan::kTileBytes);
#pragma unroll
    for (int n = 0; n < Plan::kTokenTiles; n++) {
      const int token = first_token + 8 * n;
      const float2 dx = load_scales(stage.scale() + token + 2 * t);
      int32_t min_sum[4];
      if constexpr (F::kHasMins)
        multiply_mins(
            min_sum, own.mins[0], own.mins[1],
            *reinterpret_cast<const uint2*>(stage.base + stage.sums + (token + g) * kSumBytes + t * 8));
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float s = static_cast<float>(sum.v[m][n][i] >> F::kShift), scale = i % 2 ? dx.y : dx.x;
        float& out = acc.v[m][n][i];
        if constexpr (F::kHasMins)
          out = fmaf(scale, fmaf(-own.dmin[i / 2], static_cast<float>(min_sum[i]), own.d[i / 2] * s), out);
        else
          out = fmaf(own.d[i / 2] * scale, s, out);
      }
    }
  }
}

template <WeightForm kForm>
CRIA_DEVICE void multiply_tile_blocks256(TileSums<kForm>& acc, const TileStage<kForm>& stage,
                                         const uint8_t* weights, int first_token) {
  TileIntSums<kForm> sum;
  clear(sum.v);
#pragma unroll 1
  for (int j = 0; j < 4; j++) multiply_pair_blocks256(sum, stage, weights, first_token, j);
  take_step_blocks256(acc, sum, stage, weights, first_token);
}

// ---- the kernel ----

/// Block (tile of tokens, tile of rows) of the grid: the tile of tokens is the token_block-th.
template <WeightForm kForm>
CRIA_DEVICE TileBlock tile_block(const uint8_t* weights, int n_tokens, int token_block, int64_t n_tiles,
                                 int n_chunks, const TileShape& shape) {
  using Plan = TilePlan<kForm>;
  TileBlock block;
  block.n_chunks = n_chunks;
  block.row_tiles = shape.row_warps * Plan::kRowTiles;
  const int64_t first_tile = static_cast<int64_t>(blockIdx.y) * block.row_tiles;
  block.tiles_left = static_cast<int>(min(static_cast<int64_t>(block.row_tiles), n_tiles - first_tile));
  block.weights = weights + first_tile * block.n_chunks * Plan::kTileBytes;
  block.n_tokens = shape.token_warps * Plan::kWarpTokens;
  block.first_token = token_block * block.n_tokens;
  block.tokens_left = min(block.n_tokens, n_tokens - block.first_token);
  return block;
}

/// Writes a warp's outputs. first_tile: its first tile of rows; first_token: its first token.
template <WeightForm kForm>
CRIA_DEVICE void store_tiles(TileSums<kForm>& acc, const ProductOutput& output, int64_t first_tile,
                             int first_token, int n_tokens, float* y, int64_t rows, int64_t y_stride) {
  using Plan = TilePlan<kForm>;
  const bool swiglu = output.is_swiglu();
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  if (output.adjusts()) {
#pragma unroll
    for (int m = 0; m < Plan::kRowTiles; m++)
#pragma unroll
      for (int n = 0; n < Plan::kTokenTiles; n++)
#pragma unroll
        for (int half = 0; half < 2; half++)
          output.adjust(&acc.v[m][n][2 * half], 2, first_tile + m, g + 8 * half, rows);
  }
#pragma unroll
  for (int m = 0; m < Plan::kRowTiles; m++) {
    const int64_t row = output.row_of(first_tile + m, g);
#pragma unroll
    for (int n = 0; n < Plan::kTokenTiles; n++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int token = first_token + 8 * n + 2 * t + i;
        if (token >= n_tokens) continue;
        float* out = y + token * y_stride + row;
        if (row < rows) output.store(acc.v[m][n][i], acc.v[m][n][i + 2], out);
        if (!swiglu && row + 8 < rows) output.store(acc.v[m][n][i + 2], 0.0f, out + 8);
      }
  }
}

/// Blocks that the tokens of a group take.
template <WeightForm kForm>
CRIA_HOST_DEVICE constexpr int token_blocks_of(const RowGroups& groups, const TileShape& shape) {
  const int tokens = shape.token_warps * TilePlan<kForm>::kWarpTokens;
  return (groups.group_rows + tokens - 1) / tokens;
}

// Consecutive blocks share rows, which come from memory; tokens stay in L2. With groups, the first index of a
// block counts the tiles of tokens of all groups.
template <WeightForm kForm, bool kGrouped>
static __global__ void __launch_bounds__((kGrouped ? kFewWarps : TilePlan<kForm>::kBoundWarps) * kWarpSize,
                                         TilePlan<kForm>::min_blocks(kGrouped, TilePlan<kForm>::kMajor))
    matmul_tiles_kernel(const uint8_t* weights, Activations x, int n_tokens, float* y, int64_t rows,
                        int64_t cols, int64_t y_stride, ProductOutput output, TileShape shape,
                        RowGroups groups) {
  using F = Format<kForm>;
  using Plan = TilePlan<kForm>;
  if constexpr (!Plan::kServed) return;
  const int tile_outputs = output.is_swiglu() ? 8 : 16;
  const int n_chunks = static_cast<int>(chunks_of(kForm, cols));
  int token_block = static_cast<int>(blockIdx.x);
  if constexpr (kGrouped) {
    const int each = token_blocks_of<kForm>(groups, shape), group = token_block / each;
    token_block %= each;
    if (!select_group<form_of_activations(kForm)>(groups, group, n_chunks, weights, x, n_tokens, y,
                                                  y_stride) ||
        token_block * shape.token_warps * Plan::kWarpTokens >= n_tokens)
      return;
  }
  const TileBlock block = tile_block<kForm>(weights, n_tokens, token_block,
                                            (rows + tile_outputs - 1) / tile_outputs, n_chunks, shape);
  const int stage_bytes = block.row_tiles * Plan::kTileBytes + block.n_tokens * Plan::kTokenBytes;
  DynamicShared dynamic;
  uint8_t* stages =
      dynamic.take<uint8_t>(static_cast<size_t>(stage_bytes) * static_cast<size_t>(shape.stages));
  const auto stage = [&](int chunk) {
    return TileStage<kForm>(stages + chunk % shape.stages * stage_bytes, block.row_tiles, block.n_tokens);
  };
  const int row_warp = warp_in_block() % shape.row_warps, token_warp = warp_in_block() / shape.row_warps;
  const int first_token = token_warp * Plan::kWarpTokens;
  TileSums<kForm> acc;
  clear(acc.v);

  const int ahead = shape.stages - 1;
  for (int i = 0; i < ahead; i++) {
    if (i < block.n_chunks) copy_stage<kForm>(stage(i), block, x, i);
    cp_async_commit();
  }
#pragma unroll 1
  for (int chunk = 0; chunk < block.n_chunks; chunk++) {
    if (ahead == 0) {  // a device with little shared memory
      __syncthreads();
      copy_stage<kForm>(stage(chunk), block, x, chunk);
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
    } else {
      if (ahead == 1)
        cp_async_wait<0>();
      else
        cp_async_wait<1>();
      __syncthreads();  // the chunk has arrived, and no thread reads the stage that is filled next
      if (chunk + ahead < block.n_chunks) copy_stage<kForm>(stage(chunk + ahead), block, x, chunk + ahead);
      cp_async_commit();
    }
    const TileStage<kForm> now = stage(chunk);
    const uint8_t* own = now.base + row_warp * Plan::kRowTiles * Plan::kTileBytes;
    if constexpr (F::kFloat)
      multiply_tile_floats<kForm>(acc, now, own, first_token);
    else if constexpr (F::kStep == Step::halves)
      multiply_tile_halves<kForm>(acc, now, own, first_token, block.n_tokens,
                                  static_cast<int>(cols - chunk * 256) / 32);
    else if constexpr (F::kBlocks32)
      multiply_tile_blocks32<kForm>(acc, now, own, first_token, block.n_tokens,
                                    static_cast<int>(cols - chunk * 256) / 32);
    else
      multiply_tile_blocks256<kForm>(acc, now, own, first_token);
  }
  store_tiles(acc, output, static_cast<int64_t>(blockIdx.y) * block.row_tiles + row_warp * Plan::kRowTiles,
              block.first_token + first_token, n_tokens, y, rows, y_stride);
}

// ---- launches ----

/// The largest tiles that keep every multiprocessor busy, with as many stages as fit in shared memory, for
/// n_groups groups of n_tokens.
template <WeightForm kForm>
TileShape choose_tile_shape(const MatmulDevice& device, std::int64_t n_tiles, std::int32_t n_tokens,
                            std::int64_t n_groups) {
  using Plan = TilePlan<kForm>;
  TileShape shape{4, Plan::max_warps(device.major) / 4, 3};
  while (shape.token_warps > 1 && n_tokens <= shape.token_warps / 2 * Plan::kWarpTokens)
    shape.token_warps /= 2;
  const std::int64_t token_blocks = n_groups * (n_tokens + shape.token_warps * Plan::kWarpTokens - 1) /
                                    (shape.token_warps * Plan::kWarpTokens);
  while (shape.row_warps > 1 && token_blocks * ((n_tiles + shape.row_warps * 2 - 1) / (shape.row_warps * 2)) <
                                    device.multiprocessors)
    shape.row_warps /= 2;
  const auto bytes = [&] {
    return static_cast<std::size_t>(shape.stages) *
           static_cast<std::size_t>(shape.row_warps * Plan::kRowTiles * Plan::kTileBytes +
                                    shape.token_warps * Plan::kWarpTokens * Plan::kTokenBytes);
  };
  while (bytes() > device.shared_per_block) {
    if (shape.stages > 2 || (shape.stages == 2 && shape.row_warps * shape.token_warps <= 4))
      shape.stages--;
    else if (shape.token_warps > 1)
      shape.token_warps /= 2;
    else
      shape.row_warps /= 2;
  }
  return shape;
}

template <WeightForm kForm>
void launch_tiles(const MatmulDevice& device, const MatmulArgs& a, const RowGroups& groups, Stream stream) {
  using Plan = TilePlan<kForm>;
  const std::int64_t tile_outputs = a.epilogue == Epilogue::swiglu ? 8 : kTileRows;
  const std::int64_t n_tiles = (a.weight.rows + tile_outputs - 1) / tile_outputs;
  const bool grouped = groups.groups;
  TileShape shape = choose_tile_shape<kForm>(device, n_tiles, grouped ? groups.group_rows : a.n_tokens,
                                             grouped ? groups.n_groups : 1);
  if (grouped)  // no warp without tokens, however full the group
    shape.token_warps =
        std::min(shape.token_warps, (groups.group_rows + Plan::kWarpTokens - 1) / Plan::kWarpTokens);
  const int row_tiles = shape.row_warps * Plan::kRowTiles, tokens = shape.token_warps * Plan::kWarpTokens;
  const Activations x =
      divide_activations(form_of_activations(kForm), a.activations, a.n_tokens, a.weight.cols);
  launch(
      {.name = "matmul_tiles",
       .grid = {static_cast<unsigned>(grouped ? groups.n_groups * token_blocks_of<kForm>(groups, shape)
                                              : (a.n_tokens + tokens - 1) / tokens),
                static_cast<unsigned>((n_tiles + row_tiles - 1) / row_tiles)},
       .block = {static_cast<unsigned>(shape.row_warps * shape.token_warps * kWarpSize)},
       .dynamic_shared = static_cast<std::size_t>(shape.stages) *
                         static_cast<std::size_t>(row_tiles * Plan::kTileBytes + tokens * Plan::kTokenBytes),
       .stream = stream},
      grouped ? matmul_tiles_kernel<kForm, true> : matmul_tiles_kernel<kForm, false>,
      static_cast<const uint8_t*>(a.weight.data), x, a.n_tokens, a.y, a.weight.rows, a.weight.cols,
      a.y_stride, ProductOutput(a), shape, groups);
}

template <WeightForm kForm>
void prepare_tiles(const MatmulDevice& device) {
  set_max_dynamic_shared(reinterpret_cast<const void*>(&matmul_tiles_kernel<kForm, false>), "matmul_tiles",
                         device.shared_per_block);
  set_max_dynamic_shared(reinterpret_cast<const void*>(&matmul_tiles_kernel<kForm, true>), "matmul_tiles",
                         device.shared_per_block);
}

}  // namespace cria::cuda
