#include <cfloat>
#include <cmath>

#include "core/sampling_math.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sample.h"

namespace cria::cuda {
namespace {

// ---- the largest logit, common to both kernels ----

/// Four neighbours of a row of n; -infinity beyond its end.
CRIA_DEVICE float4 load_four(const float* row, int64_t i, int64_t n, bool aligned) {
  if (aligned && i + 4 <= n) return *reinterpret_cast<const float4*>(row + i);
  return make_float4(i < n ? row[i] : -INFINITY, i + 1 < n ? row[i + 1] : -INFINITY,
                     i + 2 < n ? row[i + 2] : -INFINITY, i + 3 < n ? row[i + 3] : -INFINITY);
}

/// The largest of some logits, and whether one of them is NaN or +infinity.
struct ArgMax {
  float max_logit;
  uint32_t id;
  bool unsound;

  CRIA_DEVICE void add(float4 four, uint32_t first_id) {
    const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      unsound |= !(values[i] <= FLT_MAX);
      if (values[i] > max_logit) {
        max_logit = values[i];
        id = first_id + static_cast<uint32_t>(i);
      }
    }
  }
  /// The lowest id among equals.
  CRIA_DEVICE void merge(float other, uint32_t other_id) {
    if (other > max_logit || (other == max_logit && other_id < id)) {
      max_logit = other;
      id = other_id;
    }
  }
};

template <int kWarps>
struct ArgMaxShared {
  SharedArray<float, kWarps> max_logit;
  SharedArray<uint32_t, kWarps> id;
};

/// Over the block, in every thread.
template <int kWarps>
CRIA_DEVICE ArgMax block_argmax(ArgMax mine, ArgMaxShared<kWarps>& shared) {
#pragma unroll
  for (int step = 16; step; step /= 2)
    mine.merge(__shfl_xor_sync(kFullWarp, mine.max_logit, step), __shfl_xor_sync(kFullWarp, mine.id, step));
  if (lane_in_warp() == 0) {
    shared.max_logit[warp_in_block()] = mine.max_logit;
    shared.id[warp_in_block()] = mine.id;
  }
  mine.unsound = __syncthreads_or(mine.unsound) != 0;
  for (int w = 0; w < kWarps; w++) mine.merge(shared.max_logit[w], shared.id[w]);
  return mine;
}

// ---- greedy ----

constexpr int kGreedyThreads = 256, kGreedyWarps = kGreedyThreads / kWarpSize;
constexpr int kGreedyFours = 8;  // groups of four logits per thread
constexpr int kGreedyChunk = kGreedyThreads * kGreedyFours * 4;

struct GreedyPart {
  float max_logit, sum;
  uint32_t id;
  uint32_t unsound;
};

struct GreedyShared {
  ArgMaxShared<kGreedyWarps> best;
  BlockSumShared<kGreedyWarps> sum;
};

/// By the last block of a row: merges its chunks.
CRIA_DEVICE void merge_chunks(const GreedyPart* chunks, unsigned n, ArgMax best, uint32_t* argmax,
                              float* log_sum_exp) {
  for (unsigned c = 0; c < n; c++) {
    best.merge(chunks[c].max_logit, chunks[c].id);
    best.unsound |= chunks[c].unsound != 0;
  }
  float total = 0.0f;
  for (unsigned c = 0; c < n; c++)
    if (chunks[c].max_logit != -INFINITY)
      total = fmaf(chunks[c].sum, exp_exact(chunks[c].max_logit - best.max_logit), total);
  *argmax = best.id;
  *log_sum_exp = best.unsound || best.max_logit == -INFINITY
                     ? float_of_bits(0x7fc00000u)
                     : best.max_logit + static_cast<float>(log(static_cast<double>(total)));
}

}  // namespace

// One block per chunk of a row. A thread's logits are those of fours j * 256 + thread; its sum is one chain
// in that order; then block_sum.
static __global__ void __launch_bounds__(kGreedyThreads)
    greedy_kernel(const float* logits, int64_t vocab, GreedyPart* parts, uint32_t* counters, uint32_t* argmax,
                  float* log_sum_exp) {
  GreedyShared& shared = shared_memory<GreedyShared>();
  const int64_t row = blockIdx.y;
  const float* x = logits + row * vocab;
  const bool aligned = reinterpret_cast<size_t>(x) % 16 == 0;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kGreedyChunk;
  const auto place = [&](int j) { return first + (j * kGreedyThreads + thread_in_block()) * 4; };
  float4 fours[kGreedyFours];
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++) fours[j] = load_four(x, place(j), vocab, aligned);
  ArgMax best{-INFINITY, static_cast<uint32_t>(first), false};
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++) best.add(fours[j], static_cast<uint32_t>(place(j)));
  best = block_argmax(best, shared.best);
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++) {
    sum += exp_exact(fours[j].x - best.max_logit);
    sum += exp_exact(fours[j].y - best.max_logit);
    sum += exp_exact(fours[j].z - best.max_logit);
    sum += exp_exact(fours[j].w - best.max_logit);
  }
  sum = block_sum(sum, shared.sum);

  if (thread_in_block() != 0) return;
  parts[row * gridDim.x + blockIdx.x] = {best.max_logit, sum, best.id, best.unsound};
  if (add_acquire_release(counters + row, 1) + 1 != gridDim.x) return;
  store_release(counters + row, 0);  // for the next launch
  merge_chunks(parts + row * gridDim.x, gridDim.x, best, argmax + row, log_sum_exp + row);
}

namespace {

unsigned greedy_chunks(std::int64_t vocab) {
  return static_cast<unsigned>((vocab + kGreedyChunk - 1) / kGreedyChunk);
}

std::size_t greedy_counters_bytes(std::int32_t rows) {
  return (static_cast<std::size_t>(rows) * 4 + 255) / 256 * 256;
}

}  // namespace

std::size_t greedy_workspace_bytes(std::int32_t rows, std::int64_t vocab) {
  return greedy_counters_bytes(rows) +
         static_cast<std::size_t>(rows) * greedy_chunks(vocab) * sizeof(GreedyPart);
}

void greedy(const float* logits, std::int32_t rows, std::int64_t vocab, std::uint32_t* argmax,
            float* log_sum_exp, void* workspace, Stream stream) {
  if (rows == 0) return;
  auto* bytes = static_cast<unsigned char*>(workspace);
  launch({.name = "greedy",
          .grid = {greedy_chunks(vocab), static_cast<unsigned>(rows)},
          .block = {kGreedyThreads},
          .stream = stream},
         greedy_kernel, logits, vocab, reinterpret_cast<GreedyPart*>(bytes + greedy_counters_bytes(rows)),
         reinterpret_cast<std::uint32_t*>(bytes), argmax, log_sum_exp);
}

// ---- the sampler ----

namespace {

// What atomics and shuffles call a 64-bit integer.
using Mass = unsigned long long;

constexpr int kSampleThreads = 1024, kSampleWarps = kSampleThreads / kWarpSize;
constexpr int kDistanceSteps = 2 * kSampleThreads;  // of 1/64
constexpr int kSampleList = 1024;

struct SampleShared {
  SharedArray<Mass, kDistanceSteps> steps;
  SharedArray<Mass, kSampleList> keys;
  SharedArray<Mass, kSampleList> weights;
  SharedArray<Mass, kSampleWarps> warps;
  SharedArray<Mass, 4> found;
  ArgMaxShared<kSampleWarps> best;
  SharedArray<int, 1> count;
  SharedArray<int, 1> step;
};

/// Monotonic in the key: the bin of a logit in a histogram of distances from the largest.
CRIA_DEVICE int distance_step(float logit, float max_logit) {
  const float step = (max_logit - logit) * 64.0f;
  return step < static_cast<float>(kDistanceSteps - 1) ? static_cast<int>(step) : kDistanceSteps - 1;
}

CRIA_DEVICE Mass warp_mass(Mass x) {
  for (int step = 16; step; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}
/// The sum over lanes up to this one.
CRIA_DEVICE Mass warp_scan(Mass x) {
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Mass before = __shfl_up_sync(kFullWarp, x, static_cast<unsigned>(step));
    if (lane_in_warp() >= step) x += before;
  }
  return x;
}
CRIA_DEVICE Mass block_mass(Mass x, SampleShared& shared) {
  x = warp_mass(x);
  if (lane_in_warp() == 0) shared.warps[warp_in_block()] = x;
  __syncthreads();
  Mass sum = 0;
  for (int w = 0; w < kSampleWarps; w++) sum += shared.warps[w];
  __syncthreads();
  return sum;
}

/// A row and what is kept of it: the tokens whose key is at most `last_key` and that are not forbidden.
struct KeptRow {
  const float* logits;
  int n;
  bool aligned;
  float max_logit;
  Mass last_key;

  /// visitor(logit, key) for the kept tokens, each by one thread.
  template <class Visitor>
  CRIA_DEVICE void visit(Visitor visitor) const {
    for (int i = thread_in_block() * 4; i < n; i += kSampleThreads * 4) {
      const float4 four = load_four(logits, i, n, aligned);
      const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (values[j] == -INFINITY) continue;
        const Mass key = descending_key(values[j], static_cast<uint32_t>(i + j));
        if (key <= last_key) visitor(values[j], key);
      }
    }
  }
  /// The same for those within one step of distance.
  template <class Visitor>
  CRIA_DEVICE void visit_step(int step, Visitor visitor) const {
    visit([&](float logit, Mass key) {
      if (distance_step(logit, max_logit) == step) visitor(logit, key);
    });
  }
};

/// Cuts a row where the kept tokens, in the order of their keys, reach a mass: tokens, or weight at
/// temperature 1. A histogram of distances from the largest finds the 1/64 in which that happens; the tokens
/// within it are compared with each other.
template <bool kByWeight>
struct Cut {
  KeptRow& row;
  SampleShared& shared;

  CRIA_DEVICE Mass mass_of(float logit) const {
    return kByWeight ? weight_of(logit - row.max_logit, 1.0f) : 1;
  }

  CRIA_DEVICE void fill_histogram() const {
    const int me = thread_in_block();
    shared.steps[2 * me] = shared.steps[2 * me + 1] = 0;
    if (me == 0) shared.count[0] = 0;
    __syncthreads();
    row.visit([&](float logit, Mass) {
      const Mass x = mass_of(logit);
      if (x) atomicAdd(&shared.steps[distance_step(logit, row.max_logit)], x);
    });
    __syncthreads();
  }

  /// The step in which the mass is reached, in shared.step, and what is missing at its beginning, in
  /// shared.found[0]. False when everything is kept.
  CRIA_DEVICE bool find_step(double share, Mass count) const {
    const int me = thread_in_block();
    const Mass mine = shared.steps[2 * me] + shared.steps[2 * me + 1];
    const Mass scanned = warp_scan(mine);
    if (lane_in_warp() == kWarpSize - 1) shared.warps[warp_in_block()] = scanned;
    __syncthreads();
    Mass before = scanned - mine, total = 0;
    for (int w = 0; w < kSampleWarps; w++) {
      if (w < warp_in_block()) before += shared.warps[w];
      total += shared.warps[w];
    }
    Mass missing = count;
    if (kByWeight) {
      const Mass wanted = static_cast<Mass>(ceil(share * static_cast<double>(total)));
      missing = wanted < 1 ? 1 : wanted > total ? total : wanted;
    } else if (total <= count) {
      __syncthreads();
      return false;
    }
    if (before < missing && before + mine >= missing) {
      const bool second = before + shared.steps[2 * me] < missing;
      shared.step[0] = 2 * me + second;
      shared.found[0] = missing - before - (second ? shared.steps[2 * me] : 0);
      shared.found[1] = ~Mass{0};  // the smallest and the largest key of that step
      shared.found[2] = 0;
    }
    __syncthreads();
    return true;
  }

  /// Lists the step's tokens with keys in [low, high], as far as the list has room; returns how many there
  /// are.
  CRIA_DEVICE int list_step(int step, Mass low, Mass high) const {
    row.visit_step(step, [&](float logit, Mass key) {
      if (key < low || key > high) return;
      const int at = atomicAdd(&shared.count[0], 1);
      if (at >= kSampleList) return;
      shared.keys[at] = key;
      shared.weights[at] = mass_of(logit);
    });
    __syncthreads();
    return shared.count[0];
  }

  /// Too many tokens of one step for the list: halves the range of keys until the rest fits, and lists that.
  CRIA_DEVICE int list_by_halving(int step, int listed, Mass& missing) const {
    row.visit_step(step, [&](float, Mass key) {
      atomicMin(&shared.found[1], key);
      atomicMax(&shared.found[2], key);
    });
    __syncthreads();
    Mass low = shared.found[1], high = shared.found[2];
    while (listed > kSampleList) {
      const Mass middle = low + (high - low) / 2;
      Mass reached = 0, n = 0;
      row.visit_step(step, [&](float logit, Mass key) {
        if (key < low || key > middle) return;
        reached += mass_of(logit);
        n++;
      });
      reached = block_mass(reached, shared);
      n = block_mass(n, shared);
      if (reached >= missing) {
        high = middle;
        listed = static_cast<int>(n);
      } else {
        missing -= reached;
        low = middle + 1;
        listed -= static_cast<int>(n);
      }
    }
    if (thread_in_block() == 0) shared.count[0] = 0;
    __syncthreads();
    return list_step(step, low, high);
  }

  /// The listed key with which `missing` is reached.
  CRIA_DEVICE void keep_listed(int listed, Mass missing) const {
    if (thread_in_block() < listed) {
      const Mass key = shared.keys[thread_in_block()], weight = shared.weights[thread_in_block()];
      Mass reached = 0;
      for (int i = 0; i < listed; i++)
        if (shared.keys[i] <= key) reached += shared.weights[i];
      if (reached >= missing && reached - weight < missing) shared.found[3] = key;
    }
    __syncthreads();
    row.last_key = shared.found[3];
    __syncthreads();
  }

  /// Keeps the tokens that make up `share` of the weight, or `count` tokens.
  CRIA_DEVICE void apply(double share, Mass count) const {
    fill_histogram();
    if (!find_step(share, count)) return;
    const int step = shared.step[0];
    Mass missing = shared.found[0];
    int listed = list_step(step, 0, ~Mass{0});
    if (listed > kSampleList) listed = list_by_halving(step, listed, missing);
    keep_listed(listed, missing);
  }
};

/// Draws one of the kept tokens, in the order of their ids: each warp has a range of them.
CRIA_DEVICE void draw(const KeptRow& row, const TokenSampling& params, SampleShared& shared, uint32_t* id) {
  const int range = (row.n + kSampleThreads - 1) / kSampleThreads * kWarpSize;
  const auto weight_at = [&](int i) -> Mass {
    if (i >= row.n) return 0;
    const float logit = row.logits[i];
    if (logit == -INFINITY || descending_key(logit, static_cast<uint32_t>(i)) > row.last_key) return 0;
    if (!(logit - row.max_logit >= params.min_distance)) return 0;
    return weight_of(logit - row.max_logit, params.inverse_temperature);
  };
  const int first = warp_in_block() * range;
  Mass mass = 0;
  for (int i = 0; i < range; i += kWarpSize) mass += weight_at(first + i + lane_in_warp());
  mass = warp_mass(mass);
  if (lane_in_warp() == 0) shared.warps[warp_in_block()] = mass;
  __syncthreads();
  Mass total = 0, before = 0;
  for (int w = 0; w < kSampleWarps; w++) {
    if (w < warp_in_block()) before += shared.warps[w];
    total += shared.warps[w];
  }
  const Mass target = multiply_high(random_bits(params.seed, params.position), total);
  if (before > target || before + mass <= target) return;
  for (int i = 0; i < range; i += kWarpSize) {
    const Mass weight = weight_at(first + i + lane_in_warp());
    const Mass reached = before + warp_scan(weight);
    if (reached > target && reached - weight <= target)
      *id = static_cast<uint32_t>(first + i + lane_in_warp());
    before = __shfl_sync(kFullWarp, reached, kWarpSize - 1);
    if (before > target) return;
  }
}

}  // namespace

// One block per row. The stages are those of sampler/sampler.h.
static __global__ void __launch_bounds__(kSampleThreads)
    sample_kernel(const float* logits, int64_t vocab, const TokenSampling* sampling, uint32_t* ids) {
  SampleShared& shared = shared_memory<SampleShared>();
  const TokenSampling params = sampling[blockIdx.x];
  KeptRow row;
  row.logits = logits + static_cast<int64_t>(blockIdx.x) * vocab;
  row.n = static_cast<int>(vocab);
  row.aligned = reinterpret_cast<size_t>(row.logits) % 16 == 0;

  ArgMax best{-INFINITY, kSampleOnHost, false};
  for (int i = thread_in_block() * 4; i < row.n; i += kSampleThreads * 4)
    best.add(load_four(row.logits, i, row.n, row.aligned), static_cast<uint32_t>(i));
  best = block_argmax(best, shared.best);
  if (best.unsound || best.max_logit == -INFINITY || params.greedy) {
    if (thread_in_block() == 0) ids[blockIdx.x] = best.unsound ? kSampleOnHost : best.id;
    return;
  }
  row.max_logit = best.max_logit;
  row.last_key = ~Mass{0};
  if (params.top_k > 0 && params.top_k < row.n)
    Cut<false>{row, shared}.apply(0.0, static_cast<Mass>(params.top_k));
  if (params.top_p < 1.0) Cut<true>{row, shared}.apply(params.top_p, 0);
  draw(row, params, shared, ids + blockIdx.x);
}

TokenSampling token_sampling(const SampleRow& row) {
  TokenSampling s{};
  s.top_p = row.top_p;
  s.seed = row.seed;
  s.position = row.position;
  s.greedy = row.on_host || row.temperature == 0;
  const double inverse = 1.0 / row.temperature;
  s.inverse_temperature =
      static_cast<float>(inverse < static_cast<double>(FLT_MAX) ? inverse : static_cast<double>(FLT_MAX));
  s.min_distance = row.min_p > 0 ? static_cast<float>(std::log(row.min_p)) : -INFINITY;
  s.top_k = row.top_k;
  return s;
}

void sample(const float* logits, std::int32_t rows, std::int64_t vocab, const TokenSampling* sampling,
            std::uint32_t* ids, Stream stream) {
  if (rows == 0) return;
  launch(
      {.name = "sample", .grid = {static_cast<unsigned>(rows)}, .block = {kSampleThreads}, .stream = stream},
      sample_kernel, logits, vocab, sampling, ids);
}

}  // namespace cria::cuda
