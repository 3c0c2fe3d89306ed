// Products of few tokens: weights stream once from memory, and memory's speed is the floor.
//
// A block has a tile of 16 rows; its warps take the tile's chunks by turns, each multiplies one by up to
// eight tokens (mma is 16 x 8, and at this size costs nothing that memory would not cost) and leaves the sums
// of its blocks in shared memory. Then threads, one an output, take the float steps of the round in the order
// of the columns: so the order is the CPU's whatever the number of warps. The sums have two buffers, so that
// the steps of one round run beside the products of the next, with one barrier a round.
//
// In flight: latency times bandwidth is 700 ns x 4.3 TB/s / 132 = 23 KB a multiprocessor on an H200. Every
// warp loads a register of its next chunk as soon as it has used that of this one, so it has a chunk (2.3
// to 4.6 KB; floats two of 2 KB) in flight all the time, also while it waits at the barrier; six to ten warps
// a multiprocessor are enough. The first chunk is asked for before the previous kernel has ended.
#include "kernels/cuda/matmul_formats.cuh"
#include "kernels/cuda/matmul_kernels.h"

namespace cria::cuda {
namespace {

template <WeightForm kForm>
struct VectorPlan {
  using F = Format<kForm>;
  static constexpr int kWarps = kForm == WeightForm::q8_min ? 2 : F::kBlocks32 ? 4 : 8;  // for shared memory
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kChunks = F::kFloat ? 2 : 1;  // that a warp takes at a time
  static constexpr int kSteps = F::kBlocks32 ? 8 : kChunks;
  static constexpr int kLoads = 4 * (F::kFloat ? kChunks : F::kPairLoads);
  static constexpr int kOutputs = (kTileRows * kVectorTokens + kThreads - 1) / kThreads;  // a thread
};

constexpr int kRowStride = 10;  // floats between rows: neither stores nor loads of the sums meet in a bank
constexpr int kStepFloats = static_cast<int>(kTileRows) * kRowStride;

template <WeightForm kForm>
struct VectorShared {
  using Plan = VectorPlan<kForm>;
  static constexpr bool kScales = Plan::F::kStep == Step::scaled || Plan::F::kStep == Step::scaled_min;
  SharedArray<float, 2 * Plan::kWarps * Plan::kSteps * kStepFloats> sums;   // [step][row][token]
  SharedArray<float, kScales ? 2 * Plan::kWarps * kStepFloats : 1> scales;  // [row][step]
  SharedArray<float, Plan::F::kStep == Step::scaled_min ? 2 * Plan::kWarps * kStepFloats : 1> mins;
};

/// What a lane holds of a warp's chunk: rows g and g + 8.
template <WeightForm kForm>
struct VectorChunk {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  uint4 q[Plan::kLoads];
  uint4 high[F::kHighLoads ? F::kHighLoads : 1];
  uint4 scales[F::kBlocks256 ? 2 : 1];
  uint32_t d[2], m[2];

  /// Pair j's high bits.
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
  CRIA_DEVICE void load_scales(const uint8_t* chunk) {
    constexpr WeightLayout layout = F::kLayout;
    const int g = lane_in_warp() / 4, t = lane_in_warp() % 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = g + 8 * i;
      const uint8_t* own = chunk + layout.scales + row * layout.scale_bytes;
      if constexpr (F::kBlocks32) d[i] = load_streaming(reinterpret_cast<const uint32_t*>(own + 4 * t));
      if constexpr (kForm == WeightForm::q8_min || kForm == WeightForm::k8_min)
        m[i] = load_streaming(reinterpret_cast<const uint32_t*>(chunk + layout.mins + row * 16 + 4 * t));
      if constexpr (F::kBlocks256) scales[i] = load_streaming(reinterpret_cast<const uint4*>(own));
      if constexpr (kForm == WeightForm::k8_min)
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

CRIA_DEVICE void store_pair(float& at, float low, float high) {
  *reinterpret_cast<float2*>(&at) = make_float2(low, high);
}

/// The operands B of eight tokens, 16 bytes a lane: zeros for tokens that are not there. A plain load, as all
/// loads of activations here: the previous kernel may still write them when this one begins, so they are not
/// read-only for its whole life, as ld.nc wants, and must stay behind grid_dependency_wait().
CRIA_DEVICE uint4 load_tokens(const uint8_t* p, bool valid) {
  return valid ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}

/// One chunk of a warp (floats: two). sums, scales, mins: the warp's place in this round's buffers. ahead:
/// the warp's next chunk, null when there is none.
template <WeightForm kForm>
CRIA_DEVICE void multiply_chunk(VectorChunk<kForm>& w, const uint8_t* ahead, const Activations& x,
                                int64_t unit, int64_t n_chunks, int n_tokens, VectorShared<kForm>& shared,
                                int sums, int scales) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  const int lane = lane_in_warp(), g = lane / 4, t = lane % 4;
  const bool valid = g < n_tokens;
  const int upper = sums + g * kRowStride + 2 * t, lower = upper + 8 * kRowStride;
  const uint8_t* xq = x.q + (g * n_chunks + unit * Plan::kChunks) * F::kActivationBytes + t * 16;
  if constexpr (F::kFloat) {
#pragma unroll
    for (int chunk = 0; chunk < Plan::kChunks; chunk++) {
      float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      const bool inside = valid && unit * Plan::kChunks + chunk < n_chunks;
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint4 b = load_tokens(xq + chunk * F::kActivationBytes + i * 64, inside);
        multiply_floats<kForm>(c, w.q[chunk * 4 + 2 * i], b.x, b.y);
        multiply_floats<kForm>(c, w.q[chunk * 4 + 2 * i + 1], b.z, b.w);
      }
      store_pair(shared.sums[upper + chunk * kStepFloats], c[0], c[1]);
      store_pair(shared.sums[lower + chunk * kStepFloats], c[2], c[3]);
    }
    // (The next chunks' loads: in matmul's loop, where the end of the row is known.)
  } else if constexpr (F::kBlocks32) {
    for (int i = 0; i < 2; i++) {
      const int own = scales + (g + 8 * i) * kRowStride + 2 * t;
      store_pair(shared.scales[own], low_half(w.d[i]), high_half(w.d[i]));
      if constexpr (F::kStep == Step::scaled_min)
        store_pair(shared.mins[own], low_half(w.m[i]), high_half(w.m[i]));
    }
    if (ahead) w.load_scales(ahead);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const uint4 b = load_tokens(xq + j * 64, valid);
      uint32_t a[2][4];
      unpack_pair<kForm>(w.q + j * F::kPairLoads, w.high_word(j, 0), w.high_word(j, 1), a);
      if (ahead)
        for (int i = 0; i < F::kPairLoads; i++) w.load_quants(ahead, j * F::kPairLoads + i);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int32_t s[4] = {kSumOrigin, kSumOrigin, kSumOrigin, kSumOrigin};
        const uint32_t operand[2] = {half ? b.z : b.x, half ? b.w : b.y};
        mma_s8(s, a[half], operand);
        const int step = (2 * j + half) * kStepFloats;
        store_pair(shared.sums[upper + step], block_sum_of<kForm>(s[0]), block_sum_of<kForm>(s[1]));
        store_pair(shared.sums[lower + step], block_sum_of<kForm>(s[2]), block_sum_of<kForm>(s[3]));
      }
    }
  } else {
    int32_t isum[4] = {0, 0, 0, 0}, msum[4];
    uint4 scale[2] = {w.scales[0], w.scales[1]};
    float d[2], dmin[2];
    if constexpr (F::kHasMins) {
      const uint2 x_sums =
          valid ? *reinterpret_cast<const uint2*>(x.sums + (g * n_chunks + unit) * kSumBytes + t * 8)
                : make_uint2(0, 0);
      uint32_t mins[2];
      for (int i = 0; i < 2; i++) {
        uint32_t pair;
        if constexpr (F::kSixBits) {
          const SixBits six(w.scales[i]);
          pair = w.scales[i].x;
          mins[i] = six.mins_of_16(t);
          scale[i].x = six.scale[0];
          scale[i].y = six.scale[1];
        } else {
          pair = w.d[i];
          mins[i] = w.m[i];
        }
        d[i] = low_half(pair);
        dmin[i] = high_half(pair);
      }
      multiply_mins(msum, mins[0], mins[1], x_sums);
    } else {
      d[0] = low_half(w.d[0]);
      d[1] = low_half(w.d[1]);
    }
    if (ahead) w.load_scales(ahead);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const uint4 b = load_tokens(xq + j * 64, valid);
      uint32_t a[2][4];
      unpack_pair<kForm>(w.q + j * F::kPairLoads, w.high_word(j, 0), w.high_word(j, 1), a);
      if (ahead) {
        for (int i = 0; i < F::kPairLoads; i++) w.load_quants(ahead, j * F::kPairLoads + i);
        if (j == 3) w.load_high(ahead);
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        // Six bits: two bytes a pair, four pairs in two words; else a word a pair.
        const uint32_t low = F::kSixBits ? word(scale[0], j / 2) >> (j % 2 * 16) : word(scale[0], j);
        const uint32_t below = F::kSixBits ? word(scale[1], j / 2) >> (j % 2 * 16) : word(scale[1], j);
        multiply_group<kForm>(isum, a[half], half ? b.z : b.x, half ? b.w : b.y, low, below, half);
      }
    }
    float out[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float s = static_cast<float>(isum[i] >> F::kShift);
      if constexpr (F::kHasMins)
        out[i] = fmaf(-dmin[i / 2], static_cast<float>(msum[i]), d[i / 2] * s);
      else
        out[i] = s;
    }
    store_pair(shared.sums[upper], out[0], out[1]);
    store_pair(shared.sums[lower], out[2], out[3]);
    if constexpr (F::kStep == Step::scaled)
      if (t == 0) {
        shared.scales[scales + g] = d[0];
        shared.scales[scales + g + 8] = d[1];
      }
  }
}

/// The float steps of one warp's chunk for one output.
template <WeightForm kForm>
CRIA_DEVICE float take_steps(float acc, VectorShared<kForm>& shared, int sums, int scales, int row, int token,
                             const Activations& x, int64_t unit, int64_t n_chunks, int64_t cols) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  const int own = sums + row * kRowStride + token;
  if constexpr (F::kFloat) {
#pragma unroll
    for (int i = 0; i < Plan::kChunks; i++)
      if (unit * Plan::kChunks + i < n_chunks) acc += shared.sums[own + i * kStepFloats];
  } else if constexpr (F::kBlocks32) {
    const int64_t left = (cols - unit * 256) / 32;
    const float* dx = x.scale + unit * 8 * x.stride + token;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      if (i >= left) break;
      acc = fmaf(shared.scales[scales + row * kRowStride + i] * dx[i * x.stride],
                 shared.sums[own + i * kStepFloats], acc);
      if constexpr (F::kStep == Step::scaled_min)
        acc = fmaf(shared.mins[scales + row * kRowStride + i], x.weighted[(unit * 8 + i) * x.stride + token],
                   acc);
    }
  } else {
    const float dx = x.scale[unit * x.stride + token], s = shared.sums[own];
    if constexpr (F::kStep == Step::inner)
      acc = fmaf(dx, s, acc);
    else
      acc = fmaf(shared.scales[scales + row] * dx, s, acc);
  }
  return acc;
}

}  // namespace

template <WeightForm kForm>
static __global__ void __launch_bounds__(VectorPlan<kForm>::kThreads, 512 / VectorPlan<kForm>::kThreads)
    matmul_vector_kernel(const uint8_t* weights, Activations x, int n_tokens, float* y, int64_t rows,
                         int64_t cols, int64_t y_stride, int epilogue) {
  using F = Format<kForm>;
  using Plan = VectorPlan<kForm>;
  constexpr int64_t kUnitBytes = Plan::kChunks * F::kLayout.chunk_bytes;
  VectorShared<kForm>& shared = shared_memory<VectorShared<kForm>>();
  const int warp = warp_in_block(), row = thread_in_block() % kTileRows;
  const int64_t n_chunks = chunks_of(kForm, cols), n_units = (n_chunks + Plan::kChunks - 1) / Plan::kChunks;
  const uint8_t* tile = weights + static_cast<int64_t>(blockIdx.x) * n_chunks * F::kLayout.chunk_bytes;

  VectorChunk<kForm> chunk;
  // A unit of two chunks may end beyond the row, and at the last tile beyond the matrix.
  const auto load = [&](int64_t unit) {
    if constexpr (F::kFloat) {
#pragma unroll
      for (int i = 0; i < Plan::kChunks; i++) {
        const bool inside = unit * Plan::kChunks + i < n_chunks;
#pragma unroll
        for (int k = 0; k < 4; k++)
          if (inside)
            chunk.load_quants(tile + unit * kUnitBytes, i * 4 + k);
          else
            chunk.q[i * 4 + k] = make_uint4(0, 0, 0, 0);
      }
    } else {
      chunk.load(tile + unit * kUnitBytes);
    }
  };
  if (warp < n_units) load(warp);
  grid_dependency_wait();
  grid_launch_dependents();

  float acc[Plan::kOutputs];
  for (int i = 0; i < Plan::kOutputs; i++) acc[i] = 0.0f;
  int parity = 0;
  for (int64_t first = 0; first < n_units; first += Plan::kWarps, parity ^= 1) {
    const int64_t unit = first + warp;
    const int place = parity * Plan::kWarps + warp;
    if (unit < n_units) {
      const bool more = unit + Plan::kWarps < n_units;
      multiply_chunk<kForm>(chunk, more ? tile + (unit + Plan::kWarps) * kUnitBytes : nullptr, x, unit,
                            n_chunks, n_tokens, shared, place * Plan::kSteps * kStepFloats,
                            place * kStepFloats);
      if constexpr (F::kFloat)
        if (more) load(unit + Plan::kWarps);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < Plan::kOutputs; i++) {
      const int token = (thread_in_block() + i * Plan::kThreads) / static_cast<int>(kTileRows);
      if (token >= n_tokens) break;
#pragma unroll
      for (int from = 0; from < Plan::kWarps; from++) {
        if (first + from >= n_units) break;
        const int theirs = parity * Plan::kWarps + from;
        acc[i] = take_steps<kForm>(acc[i], shared, theirs * Plan::kSteps * kStepFloats, theirs * kStepFloats,
                                   row, token, x, first + from, n_chunks, cols);
      }
    }
  }

  const bool swiglu = epilogue == static_cast<int>(Epilogue::swiglu);
#pragma unroll
  for (int i = 0; i < Plan::kOutputs; i++) {
    const int token = (thread_in_block() + i * Plan::kThreads) / static_cast<int>(kTileRows);
    const float below = __shfl_xor_sync(kFullWarp, acc[i], 8);
    const int64_t r = swiglu ? static_cast<int64_t>(blockIdx.x) * 8 + row
                             : static_cast<int64_t>(blockIdx.x) * kTileRows + row;
    if (token < n_tokens && r < rows && !(swiglu && row >= 8))
      store_product(epilogue, acc[i], below, y + token * y_stride + r);
  }
}

namespace {

template <WeightForm kForm>
void launch_vector(const MatmulArgs& a, Stream stream) {
  const std::int64_t tile_outputs = a.epilogue == Epilogue::swiglu ? 8 : kTileRows;
  const Activations x =
      divide_activations(form_of_activations(kForm), a.activations, a.n_tokens, a.weight.cols);
  launch({.name = "matmul_vector",
          .grid = {static_cast<unsigned>((a.weight.rows + tile_outputs - 1) / tile_outputs)},
          .block = {VectorPlan<kForm>::kThreads},
          .stream = stream,
          .overlaps_previous = true},
         matmul_vector_kernel<kForm>, static_cast<const uint8_t*>(a.weight.data), x, a.n_tokens, a.y,
         a.weight.rows, a.weight.cols, a.y_stride, static_cast<int>(a.epilogue));
}

}  // namespace

void matmul_vector(const MatmulArgs& args, Stream stream) {
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::f16: return launch_vector<WeightForm::f16>(args, stream);
    case WeightForm::bf16: return launch_vector<WeightForm::bf16>(args, stream);
    case WeightForm::q8: return launch_vector<WeightForm::q8>(args, stream);
    case WeightForm::q8_min: return launch_vector<WeightForm::q8_min>(args, stream);
    case WeightForm::q4: return launch_vector<WeightForm::q4>(args, stream);
    case WeightForm::k8: return launch_vector<WeightForm::k8>(args, stream);
    case WeightForm::k8_min: return launch_vector<WeightForm::k8_min>(args, stream);
    case WeightForm::k4: return launch_vector<WeightForm::k4>(args, stream);
    case WeightForm::k5: return launch_vector<WeightForm::k5>(args, stream);
    case WeightForm::k6: return launch_vector<WeightForm::k6>(args, stream);
    case WeightForm::f32: return matmul_f32(args, stream);
  }
}

}  // namespace cria::cuda
