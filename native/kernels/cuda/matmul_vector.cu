// Products of few tokens: weights stream from memory once, and memory bandwidth is the bound.
//
// A tile is 16 rows of the matrix, a chunk 256 of its columns (floats: 64), a pair 64 of a chunk's columns
// (matmul_pack.h). A unit is what a warp takes at a time: one chunk (floats: two). A round is one unit for
// each warp. g and t are lane / 4 and lane % 4, as in mma's fragments (ptx_matrix.cuh).
//
// A thread block has one tile, and its warps take the tile's units in turn. A warp multiplies a unit by up to
// eight tokens (mma is 16 x 8; fewer tokens would not be faster, since memory is the bound) and leaves the
// sums of each quantization block in shared memory. Then each thread adds the round's sums, scaled, to its
// own outputs' accumulators, one float step (Step in matmul_formats.cuh) for each quantization block, in the
// order of the columns: the order is the CPU's, whatever the number of warps. The sums are double-buffered,
// so that the steps of one round overlap the products of the next, with one barrier a round.
//
// Bytes in flight: latency times bandwidth is 700 ns x 4.3 TB/s / 132 = 23 KB per multiprocessor on an H200.
// A warp reloads each register with its next chunk as soon as this one's value is used, so it always has one
// chunk (2.3 to 4.6 KB; floats two of 2 KB) in flight, also while it waits at the barrier. Six to ten warps
// per multiprocessor suffice. The first chunk is loaded before the previous kernel has ended.
#include "kernels/cuda/matmul_formats.cuh"
#include "kernels/cuda/matmul_kernels.h"

namespace cria::cuda {
namespace {

template <WeightForm kForm>
struct VectorPlan {
  using F = Format<kForm>;
  /// As many warps as shared memory has room for.
  static constexpr int kWarps = kForm == WeightForm::q8_min ? 2 : F::kBlocks32 ? 4 : 8;
  static constexpr int kThreads = kWarps * kWarpSize;
  /// Chunks of a unit.
  static constexpr int kChunks = F::kFloat ? 2 : 1;
  static constexpr int kUnitBytes = kChunks * F::kLayout.chunk_bytes;
  /// Float steps of a unit for each output.
  static constexpr int kSteps = F::kBlocks32 ? 8 : kChunks;
  /// 16-byte loads of a unit's quants by each lane.
  static constexpr int kLoads = 4 * (F::kFloat ? kChunks : F::kPairLoads);
  /// Outputs of a thread, all of the same row.
  static constexpr int kOutputs = (kTileRows * kVectorTokens + kThreads - 1) / kThreads;
};

/// Floats from row to row of the sums: eight tokens and two more, which avoid bank conflicts of stores and
/// loads.
constexpr int kRowStride = 10;
constexpr int kStepFloats = static_cast<int>(kTileRows) * kRowStride;

template <WeightForm kForm>
struct VectorShared {
  using Plan = VectorPlan<kForm>;
  static constexpr bool kScales = Plan::F::kStep == Step::scaled || Plan::F::kStep == Step::scaled_min;
  SharedArray<float, 2 * Plan::kWarps * Plan::kSteps * kStepFloats> sums;   // [step][row][token]
  SharedArray<float, kScales ? 2 * Plan::kWarps * kStepFloats : 1> scales;  // [row][step]
  SharedArray<float, Plan::F::kStep == Step::scaled_min ? 2 * Plan::kWarps * kStepFloats : 1> mins;
};

/// A lane's share of a unit's weights, in registers: rows g and g + 8.
template <WeightForm kForm>
struct VectorChunk {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  uint4 q[Plan::kLoads];
  uint4 high[F::kHighLoads ? F::kHighLoads : 1];
  uint4 scales[F::kStep == Step::halves ? 4 : F::kBlocks256 ? 2 : 1];
  uint32_t d[2], m[2];
  uint4 book;  // of all chunks the same

  /// High bits of pair j (k5: one word) or of its group i (k6); other forms have none.
  CRIA_DEVICE uint32_t high_word(int j, int i) const {
    if constexpr (kForm == WeightForm::k5) return word(high[0], j);
    if constexpr (kForm == WeightForm::k6) return word(high[j / 2], j % 2 * 2 + i);
    return 0;
  }
  CRIA_DEVICE void load_quants(const uint8_t* chunk, int i) {
    q[i] = load_streaming(reinterpret_cast<const uint4*>(chunk + i * 512 + lane_in_warp() * 16));
  }
  CRIA_DEVICE void load_high(const uint8_t* chunk) {
#pragma unroll
    for (int i = 0; i < F::kHighLoads; i++)
      high[i] = load_streaming(reinterpret_cast<const uint4*>(chunk + 2048 + i * 512 + lane_in_warp() * 16));
  }
  /// s4: both scales of group `half` of pair j, in row g + 8 * i.
  CRIA_DEVICE uint32_t half_scales(int i, int j, int half) const {
    return word(scales[2 * i + j / 2], j % 2 * 2 + half);
  }
  CRIA_DEVICE void load_scales(const uint8_t* chunk) {
    constexpr WeightLayout layout = F::kLayout;
    const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
    if constexpr (F::kCodes) book = __ldg(reinterpret_cast<const uint4*>(chunk + layout.book));
    if constexpr (F::kStep == Step::halves)
      m[0] = __ldg(reinterpret_cast<const uint32_t*>(chunk + layout.book + 16));
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = g + 8 * i;
      const uint8_t* own = chunk + layout.scales + row * layout.scale_bytes;
      if constexpr (F::kStep == Step::halves)
        for (int k = 0; k < 2; k++)
          scales[2 * i + k] = load_streaming(reinterpret_cast<const uint4*>(own + 16 * k));
      else if constexpr (F::kBlocks32)
        d[i] = load_streaming(reinterpret_cast<const uint32_t*>(own + 4 * t));
      if constexpr (kForm == WeightForm::q8_min || kForm == WeightForm::k8_min)
        m[i] = load_streaming(reinterpret_cast<const uint32_t*>(chunk + layout.mins + row * 16 + 4 * t));
      if constexpr (F::kBlocks256) scales[i] = load_streaming(reinterpret_cast<const uint4*>(own));
      if constexpr (kForm == WeightForm::k8_min || kForm == WeightForm::c4)
        d[i] = load_streaming(reinterpret_cast<const uint32_t*>(chunk + layout.blocks + row * 4));
      if constexpr (kForm == WeightForm::k8 || kForm == WeightForm::k6)
        d[i] = __ldg(reinterpret_cast<const uint16_t*>(chunk + layout.blocks + row * 2));
    }
  }
  CRIA_DEVICE void load(const uint8_t* chunk) {
#pragma unroll
    for (int i = 0; i < Plan::kLoads; i++) load_quants(chunk, i);
    load_high(chunk);
    load_scales(chunk);
  }
};

/// What all warps of a thread block share.
struct VectorBlock {
  const uint8_t* tile;  // the block's rows of the matrix
  const Activations& x;
  int n_tokens;
  int64_t cols, n_chunks, n_units;
};

/// A unit of the tile, by index, and the offsets in floats of its sums and scales (and mins) in shared
/// memory.
struct VectorSlot {
  int64_t unit;
  int sums, scales;
};
/// parity: which of the two buffers.
template <WeightForm kForm>
CRIA_DEVICE VectorSlot vector_slot(int64_t unit, int warp, int parity) {
  using Plan = VectorPlan<kForm>;
  const int place = parity * Plan::kWarps + warp;
  return {.unit = unit, .sums = place * Plan::kSteps * kStepFloats, .scales = place * kStepFloats};
}

CRIA_DEVICE void store_pair(float& at, float low, float high) {
  *reinterpret_cast<float2*>(&at) = make_float2(low, high);
}

/// mma's operands B of eight tokens, 16 bytes a lane; zeros for missing tokens. Activations need plain loads:
/// the previous kernel may still be writing them when this one begins, so they are not read-only for this
/// kernel's lifetime, as ld.global.nc requires, and must not be loaded before grid_dependency_wait().
CRIA_DEVICE uint4 load_tokens(const uint8_t* p, bool valid) {
  return valid ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}

/// Where a lane stores its sums for row g (elements 0 and 1 of mma's C), tokens 2t and 2t + 1. Row g + 8
/// (elements 2 and 3) is kLowerRows floats further.
CRIA_DEVICE int sums_at(const VectorSlot& slot) {
  return slot.sums + lane_in_warp() / 4 * kRowStride + lane_in_warp() % 4 * 2;
}
constexpr int kLowerRows = 8 * kRowStride;

/// Where the lane's operands B of a unit begin: token g.
template <WeightForm kForm>
CRIA_DEVICE const uint8_t* activations_at(const VectorBlock& block, int64_t unit) {
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  return block.x.q +
         (g * block.n_chunks + unit * VectorPlan<kForm>::kChunks) * Format<kForm>::kActivationBytes + t * 16;
}

// ---- one unit: its products by mma, its sums to shared memory. next: the warp's next unit, or null; its
// loads replace each register as soon as it is used ----

/// Without `next`: multiply_unit() loads that unit afterwards, since its second chunk may not exist.
template <WeightForm kForm>
CRIA_DEVICE void multiply_unit_floats(const VectorChunk<kForm>& w, const VectorBlock& block,
                                      const VectorSlot& slot, VectorShared<kForm>& shared) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  const bool valid = lane_in_warp() / 4 < block.n_tokens;
  const int upper = sums_at(slot), lower = upper + kLowerRows;
  const uint8_t* x = activations_at<kForm>(block, slot.unit);
#pragma unroll
  for (int chunk = 0; chunk < Plan::kChunks; chunk++) {
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const bool inside = valid && slot.unit * Plan::kChunks + chunk < block.n_chunks;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint4 b = load_tokens(x + chunk * F::kActivationBytes + i * 64, inside);
      multiply_floats<kForm>(c, w.q[chunk * 4 + 2 * i], b.x, b.y);
      multiply_floats<kForm>(c, w.q[chunk * 4 + 2 * i + 1], b.z, b.w);
    }
    store_pair(shared.sums[upper + chunk * kStepFloats], c[0], c[1]);
    store_pair(shared.sums[lower + chunk * kStepFloats], c[2], c[3]);
  }
}

template <WeightForm kForm>
CRIA_DEVICE void multiply_unit_blocks32(VectorChunk<kForm>& w, const uint8_t* next, const VectorBlock& block,
                                        const VectorSlot& slot, VectorShared<kForm>& shared) {
  using F = Format<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  const bool valid = g < block.n_tokens;
  const int upper = sums_at(slot), lower = upper + kLowerRows;
  const uint8_t* x = activations_at<kForm>(block, slot.unit);
  if constexpr (F::kStep != Step::halves) {
    for (int i = 0; i < 2; i++) {
      const int own = slot.scales + (g + 8 * i) * kRowStride + 2 * t;
      store_pair(shared.scales[own], low_half(w.d[i]), high_half(w.d[i]));
      if constexpr (F::kStep == Step::scaled_min)
        store_pair(shared.mins[own], low_half(w.m[i]), high_half(w.m[i]));
    }
    if (next) w.load_scales(next);
  }
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const uint4 b = load_tokens(x + j * 64, valid);
    uint32_t a[2][4];
    unpack_pair<kForm>(w.q + j * F::kPairLoads, w.high_word(j, 0), w.high_word(j, 1), w.book, a);
    if (next)
      for (int i = 0; i < F::kPairLoads; i++) w.load_quants(next, j * F::kPairLoads + i);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint32_t operand[2] = {half ? b.z : b.x, half ? b.w : b.y};
      const int step = (2 * j + half) * kStepFloats;
      float sum[4];
      if constexpr (F::kStep == Step::halves) {
        multiply_halves<kForm>(sum, a[half], operand[0], operand[1], w.half_scales(0, j, half),
                               w.half_scales(1, j, half), w.m[0] != 0);
      } else {
        int32_t s[4] = {kSumOrigin, kSumOrigin, kSumOrigin, kSumOrigin};
        mma_s8(s, a[half], operand);
        for (int i = 0; i < 4; i++) sum[i] = block_sum_of<kForm>(s[i]);
      }
      store_pair(shared.sums[upper + step], sum[0], sum[1]);
      store_pair(shared.sums[lower + step], sum[2], sum[3]);
    }
  }
  if constexpr (F::kStep == Step::halves)
    if (next) w.load_scales(next);
}

/// Scales of a lane's two rows in a super-block, and the sums of the mins' products. `valid`: token g
/// exists.
template <WeightForm kForm>
struct VectorScales {
  using F = Format<kForm>;
  uint4 group[2];  // integer scales of the groups, as multiply_group() takes them
  float d[2], dmin[2];
  int32_t min_sum[4];  // mins times sums of activations, laid out as mma's C

  CRIA_DEVICE VectorScales(const VectorChunk<kForm>& w, const VectorBlock& block, int64_t unit, bool valid) {
    group[0] = w.scales[0];
    group[1] = w.scales[1];
    if constexpr (F::kHasMins) {
      const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
      const uint2 x_sums = valid ? *reinterpret_cast<const uint2*>(
                                       block.x.sums + (g * block.n_chunks + unit) * kSumBytes + t * 8)
                                 : make_uint2(0, 0);
      uint32_t mins[2];
      for (int i = 0; i < 2; i++) {
        uint32_t pair;
        if constexpr (F::kSixBits) {
          const K4Scales<uint32_t> six = k4_scales_of(w.scales[i]);
          pair = w.scales[i].x;
          mins[i] = mins_of_16(six, t);
          group[i].x = six.scale[0];
          group[i].y = six.scale[1];
        } else {
          pair = w.d[i];
          mins[i] = w.m[i];
        }
        d[i] = low_half(pair);
        dmin[i] = high_half(pair);
      }
      multiply_mins(min_sum, mins[0], mins[1], x_sums);
    } else {
      for (int i = 0; i < 2; i++) d[i] = kForm == WeightForm::c4 ? float_of_bits(w.d[i]) : low_half(w.d[i]);
    }
  }
  /// Scales of pair j in row g + 8 * i, in the low bytes: two bytes a pair where scales have six bits, so
  /// that four pairs are two words; otherwise four, a word.
  CRIA_DEVICE uint32_t pair(int i, int j) const {
    return F::kSixBits ? word(group[i], j / 2) >> (j % 2 * 16) : word(group[i], j);
  }
};

template <WeightForm kForm>
CRIA_DEVICE void multiply_unit_blocks256(VectorChunk<kForm>& w, const uint8_t* next, const VectorBlock& block,
                                         const VectorSlot& slot, VectorShared<kForm>& shared) {
  using F = Format<kForm>;
  const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
  const bool valid = g < block.n_tokens;
  const int upper = sums_at(slot), lower = upper + kLowerRows;
  const uint8_t* x = activations_at<kForm>(block, slot.unit);
  const VectorScales<kForm> scales(w, block, slot.unit, valid);
  if (next) w.load_scales(next);
  int32_t sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int j = 0; j < 4; j++) {
    const uint4 b = load_tokens(x + j * 64, valid);
    uint32_t a[2][4];
    unpack_pair<kForm>(w.q + j * F::kPairLoads, w.high_word(j, 0), w.high_word(j, 1), w.book, a);
    if (next) {
      for (int i = 0; i < F::kPairLoads; i++) w.load_quants(next, j * F::kPairLoads + i);
      if (j == 3) w.load_high(next);
    }
#pragma unroll
    for (int half = 0; half < 2; half++)
      multiply_group<kForm>(sum, a[half], half ? b.z : b.x, half ? b.w : b.y, scales.pair(0, j),
                            scales.pair(1, j), half);
  }
  float out[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float s = static_cast<float>(sum[i] >> F::kShift);
    if constexpr (F::kHasMins)
      out[i] = fmaf(-scales.dmin[i / 2], static_cast<float>(scales.min_sum[i]), scales.d[i / 2] * s);
    else
      out[i] = s;
  }
  store_pair(shared.sums[upper], out[0], out[1]);
  store_pair(shared.sums[lower], out[2], out[3]);
  if constexpr (F::kStep == Step::scaled)
    if (t == 0) {
      shared.scales[slot.scales + g] = scales.d[0];
      shared.scales[slot.scales + g + 8] = scales.d[1];
    }
}

/// Adds one unit's sums to the accumulator of one output: its float steps, in the order of the columns.
template <WeightForm kForm>
CRIA_DEVICE float take_steps(float acc, VectorShared<kForm>& shared, const VectorBlock& block,
                             const VectorSlot& slot, int row, int token) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  const Activations& x = block.x;
  const int own = slot.sums + row * kRowStride + token;
  if constexpr (F::kFloat) {
#pragma unroll
    for (int i = 0; i < Plan::kChunks; i++)
      if (slot.unit * Plan::kChunks + i < block.n_chunks) acc += shared.sums[own + i * kStepFloats];
  } else if constexpr (F::kBlocks32) {
    const int64_t left = (block.cols - slot.unit * 256) / 32;
    const float* dx = x.scale + slot.unit * 8 * x.stride + token;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      if (i >= left) break;
      const float sum = shared.sums[own + i * kStepFloats];
      if constexpr (F::kStep == Step::halves)
        acc = fmaf(dx[i * x.stride], sum, acc);
      else
        acc = fmaf(shared.scales[slot.scales + row * kRowStride + i] * dx[i * x.stride], sum, acc);
      if constexpr (F::kStep == Step::scaled_min)
        acc = fmaf(shared.mins[slot.scales + row * kRowStride + i],
                   x.weighted[(slot.unit * 8 + i) * x.stride + token], acc);
    }
  } else {
    const float dx = x.scale[slot.unit * x.stride + token], s = shared.sums[own];
    if constexpr (F::kStep == Step::inner)
      acc = fmaf(dx, s, acc);
    else
      acc = fmaf(shared.scales[slot.scales + row] * dx, s, acc);
  }
  return acc;
}

/// Loads a unit of floats. Zeros stand for its second chunk where the row has none: reading it would bring
/// the next tile's weights or, in the last tile, run beyond the matrix.
template <WeightForm kForm>
CRIA_DEVICE void load_unit_floats(VectorChunk<kForm>& w, const VectorBlock& block, int64_t unit) {
  using Plan = VectorPlan<kForm>;
#pragma unroll
  for (int i = 0; i < Plan::kChunks; i++) {
    const bool inside = unit * Plan::kChunks + i < block.n_chunks;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (inside)
        w.load_quants(block.tile + unit * Plan::kUnitBytes, i * 4 + k);
      else
        w.q[i * 4 + k] = make_uint4(0, 0, 0, 0);
  }
}

template <WeightForm kForm>
CRIA_DEVICE void load_first_unit(VectorChunk<kForm>& w, const VectorBlock& block, int64_t unit) {
  if constexpr (Format<kForm>::kFloat)
    load_unit_floats(w, block, unit);
  else
    w.load(block.tile + unit * VectorPlan<kForm>::kUnitBytes);
}

/// Multiplies the slot's unit and loads the warp's next one.
template <WeightForm kForm>
CRIA_DEVICE void multiply_unit(VectorChunk<kForm>& w, const VectorBlock& block, const VectorSlot& slot,
                               VectorShared<kForm>& shared) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  const int64_t next = slot.unit + Plan::kWarps;
  if constexpr (F::kFloat) {
    multiply_unit_floats(w, block, slot, shared);
    if (next < block.n_units) load_unit_floats(w, block, next);
  } else {
    const uint8_t* from = next < block.n_units ? block.tile + next * Plan::kUnitBytes : nullptr;
    if constexpr (F::kBlocks32)
      multiply_unit_blocks32(w, from, block, slot, shared);
    else
      multiply_unit_blocks256(w, from, block, slot, shared);
  }
}

}  // namespace

/// y[t, r] = row r of W times token t, or what the epilogue makes of it. Block (tile); with groups (tile,
/// group).
template <WeightForm kForm, bool kGrouped>
static __global__ void __launch_bounds__(VectorPlan<kForm>::kThreads,
                                         (kGrouped ? 256 : 512) /
                                             VectorPlan<kForm>::kThreads)  // without spills
    matmul_vector_kernel(const uint8_t* weights, Activations x, int n_tokens, float* y, int64_t rows,
                         int64_t cols, int64_t y_stride, ProductOutput output, RowGroups groups) {
  using Plan = VectorPlan<kForm>;
  VectorShared<kForm>& shared = shared_memory<VectorShared<kForm>>();
  const int warp = warp_in_block(), row = thread_in_block() % kTileRows;
  const int64_t n_chunks = chunks_of(kForm, cols);
  if constexpr (kGrouped) {
    grid_dependency_wait();  // an earlier kernel chose the matrix, so nothing can be loaded before its end
    if (!select_group<form_of_activations(kForm)>(groups, static_cast<int>(blockIdx.y), n_chunks, weights, x,
                                                  n_tokens, y, y_stride))
      return;
  }
  const VectorBlock block{
      .tile = weights + static_cast<int64_t>(blockIdx.x) * n_chunks * Format<kForm>::kLayout.chunk_bytes,
      .x = x,
      .n_tokens = n_tokens,
      .cols = cols,
      .n_chunks = n_chunks,
      .n_units = (n_chunks + Plan::kChunks - 1) / Plan::kChunks};

  VectorChunk<kForm> chunk;
  if (warp < block.n_units) load_first_unit(chunk, block, warp);
  grid_dependency_wait();
  grid_launch_dependents();

  float acc[Plan::kOutputs];
  for (int i = 0; i < Plan::kOutputs; i++) acc[i] = 0.0f;
  int parity = 0;
  for (int64_t first = 0; first < block.n_units; first += Plan::kWarps, parity ^= 1) {
    if (first + warp < block.n_units)
      multiply_unit(chunk, block, vector_slot<kForm>(first + warp, warp, parity), shared);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < Plan::kOutputs; i++) {
      const int token = (thread_in_block() + i * Plan::kThreads) / static_cast<int>(kTileRows);
      if (token >= n_tokens) break;
#pragma unroll
      for (int from = 0; from < Plan::kWarps; from++) {
        if (first + from >= block.n_units) break;
        acc[i] = take_steps<kForm>(acc[i], shared, block, vector_slot<kForm>(first + from, from, parity), row,
                                   token);
      }
    }
  }

  output.adjust(acc, Plan::kOutputs, blockIdx.x, row, rows);
  const int64_t r = output.row_of(blockIdx.x, row);
  const bool stores = r < rows && !(output.is_swiglu() && row >= 8);
#pragma unroll
  for (int i = 0; i < Plan::kOutputs; i++) {
    const int token = (thread_in_block() + i * Plan::kThreads) / static_cast<int>(kTileRows);
    const float below = __shfl_xor_sync(kFullWarp, acc[i], 8);
    if (token < n_tokens && stores) output.store(acc[i], below, y + token * y_stride + r);
  }
}

namespace {

template <WeightForm kForm>
void launch_vector(const MatmulArgs& a, const RowGroups& groups, Stream stream) {
  const std::int64_t tile_outputs = a.epilogue == Epilogue::swiglu ? 8 : kTileRows;
  const Activations x =
      divide_activations(form_of_activations(kForm), a.activations, a.n_tokens, a.weight.cols);
  launch({.name = "matmul_vector",
          .grid = {static_cast<unsigned>((a.weight.rows + tile_outputs - 1) / tile_outputs),
                   static_cast<unsigned>(groups.groups ? groups.n_groups : 1)},
          .block = {VectorPlan<kForm>::kThreads},
          .stream = stream,
          .overlaps_previous = true},
         groups.groups ? matmul_vector_kernel<kForm, true> : matmul_vector_kernel<kForm, false>,
         static_cast<const uint8_t*>(a.weight.data), x, a.n_tokens, a.y, a.weight.rows, a.weight.cols,
         a.y_stride, ProductOutput(a), groups);
}

}  // namespace

void matmul_vector(const MatmulArgs& args, const RowGroups& groups, Stream stream) {
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::f16: return launch_vector<WeightForm::f16>(args, groups, stream);
    case WeightForm::bf16: return launch_vector<WeightForm::bf16>(args, groups, stream);
    case WeightForm::q8: return launch_vector<WeightForm::q8>(args, groups, stream);
    case WeightForm::q8_min: return launch_vector<WeightForm::q8_min>(args, groups, stream);
    case WeightForm::q4: return launch_vector<WeightForm::q4>(args, groups, stream);
    case WeightForm::s4: return launch_vector<WeightForm::s4>(args, groups, stream);
    case WeightForm::k8: return launch_vector<WeightForm::k8>(args, groups, stream);
    case WeightForm::k8_min: return launch_vector<WeightForm::k8_min>(args, groups, stream);
    case WeightForm::k4: return launch_vector<WeightForm::k4>(args, groups, stream);
    case WeightForm::k5: return launch_vector<WeightForm::k5>(args, groups, stream);
    case WeightForm::k6: return launch_vector<WeightForm::k6>(args, groups, stream);
    case WeightForm::c4: return launch_vector<WeightForm::c4>(args, groups, stream);
    case WeightForm::f32: return matmul_f32(args, groups, stream);
  }
}

}  // namespace cria::cuda
