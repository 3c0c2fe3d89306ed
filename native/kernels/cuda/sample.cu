#include <cfloat>
#include <cmath>

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/sample.h"

namespace cria::cuda {
namespace {

constexpr int kGreedyThreads = 256, kGreedyFours = 8;  // groups of four logits that a thread holds
constexpr int kGreedyChunk = kGreedyThreads * kGreedyFours * 4;

struct GreedyPart {
  float max_logit, sum;
  uint32_t id;
  uint32_t unsound;
};

struct GreedyShared {
  SharedArray<float, kGreedyThreads / kWarpSize> max_logit;
  SharedArray<uint32_t, kGreedyThreads / kWarpSize> id;
  BlockSumShared<kGreedyThreads / kWarpSize> sum;
  SharedArray<int, 1> is_last;
};

/// Four neighbours of a row of n; -infinity beyond its end.
CRIA_DEVICE float4 load_four(const float* row, int64_t i, int64_t n, bool aligned) {
  if (aligned && i + 4 <= n) return *reinterpret_cast<const float4*>(row + i);
  return make_float4(i < n ? row[i] : -INFINITY, i + 1 < n ? row[i + 1] : -INFINITY,
                     i + 2 < n ? row[i + 2] : -INFINITY, i + 3 < n ? row[i + 3] : -INFINITY);
}

/// NaN and +infinity.
CRIA_DEVICE bool is_unsound(float x) { return !(x <= FLT_MAX); }

/// The lowest id among equals.
CRIA_DEVICE void keep_larger(float& x, uint32_t& id, float other, uint32_t other_id) {
  if (other > x || (other == x && other_id < id)) {
    x = other;
    id = other_id;
  }
}

}  // namespace

// A block a chunk; the last of a row merges its chunks. A thread's logits are those of fours j * 256 +
// thread, its sum is one chain in that order; then block_sum.
static __global__ void __launch_bounds__(kGreedyThreads)
    greedy_kernel(const float* logits, int64_t vocab, GreedyPart* parts, uint32_t* counters, uint32_t* argmax,
                  float* log_sum_exp) {
  GreedyShared& shared = shared_memory<GreedyShared>();
  const int64_t row = blockIdx.y;
  const float* x = logits + row * vocab;
  const bool aligned = reinterpret_cast<size_t>(x) % 16 == 0;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kGreedyChunk;
  float4 fours[kGreedyFours];
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++)
    fours[j] = load_four(x, first + (j * kGreedyThreads + thread_in_block()) * 4, vocab, aligned);
  float max_logit = -INFINITY;
  uint32_t id = static_cast<uint32_t>(first);
  bool unsound = false;
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++) {
    const uint32_t at = static_cast<uint32_t>(first + (j * kGreedyThreads + thread_in_block()) * 4);
    const float values[4] = {fours[j].x, fours[j].y, fours[j].z, fours[j].w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      unsound |= is_unsound(values[i]);
      if (values[i] > max_logit) {
        max_logit = values[i];
        id = at + static_cast<uint32_t>(i);
      }
    }
  }
#pragma unroll
  for (int step = 16; step; step /= 2)
    keep_larger(max_logit, id, __shfl_xor_sync(kFullWarp, max_logit, step),
                __shfl_xor_sync(kFullWarp, id, step));
  if (lane_in_warp() == 0) {
    shared.max_logit[warp_in_block()] = max_logit;
    shared.id[warp_in_block()] = id;
  }
  unsound = __syncthreads_or(unsound) != 0;
  for (int w = 0; w < kGreedyThreads / kWarpSize; w++)
    keep_larger(max_logit, id, shared.max_logit[w], shared.id[w]);
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kGreedyFours; j++) {
    sum += exp_exact(fours[j].x - max_logit);
    sum += exp_exact(fours[j].y - max_logit);
    sum += exp_exact(fours[j].z - max_logit);
    sum += exp_exact(fours[j].w - max_logit);
  }
  sum = block_sum(sum, shared.sum);

  if (thread_in_block() == 0) {
    parts[row * gridDim.x + blockIdx.x] = {max_logit, sum, id, unsound};
    shared.is_last[0] = add_acquire_release(counters + row, 1) + 1 == gridDim.x;
    if (shared.is_last[0]) {
      store_release(counters + row, 0);  // for the next launch
      const GreedyPart* chunks = parts + row * gridDim.x;
      for (unsigned c = 0; c < gridDim.x; c++) {
        keep_larger(max_logit, id, chunks[c].max_logit, chunks[c].id);
        unsound |= chunks[c].unsound != 0;
      }
      float total = 0.0f;
      for (unsigned c = 0; c < gridDim.x; c++)
        if (chunks[c].max_logit != -INFINITY)
          total = fmaf(chunks[c].sum, exp_exact(chunks[c].max_logit - max_logit), total);
      argmax[row] = id;
      log_sum_exp[row] = unsound || max_logit == -INFINITY
                             ? float_of_bits(0x7fc00000u)
                             : max_logit + static_cast<float>(log(static_cast<double>(total)));
    }
  }
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
  SharedArray<float, kSampleWarps> max_logit;
  SharedArray<uint32_t, kSampleWarps> id;
  SharedArray<int, 1> count;
  SharedArray<int, 1> step;
};

/// As the host's: sampler/weights.h defines them; each operation is rounded by itself.
CRIA_DEVICE Mass weight_of(float logit, float max_logit, float inverse_temperature) {
  float x = (logit - max_logit) * inverse_temperature;
  x = x > -80.0f ? x : -80.0f;
  const float shifted = x * 1.44269504088896341f + 0x1.8p23f;
  const float n = shifted - 0x1.8p23f;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const float e = float_of_bits(bits_of(p) + (bits_of(shifted) << 23));
  return static_cast<Mass>(static_cast<long long>(e * 0x1p44f));
}

/// Largest logit first, lowest id among equals.
CRIA_DEVICE Mass key_of(float logit, uint32_t id) {
  const uint32_t bits = bits_of(logit + 0.0f);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<Mass>(~ascending) << 32 | id;
}

/// Monotonous in the key: where in a histogram a logit counts.
CRIA_DEVICE int distance_step(float logit, float max_logit) {
  const float step = (max_logit - logit) * 64.0f;
  return step < static_cast<float>(kDistanceSteps - 1) ? static_cast<int>(step) : kDistanceSteps - 1;
}

CRIA_DEVICE Mass random_bits(uint64_t seed, uint64_t position) {
  uint32_t c[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  uint32_t k[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; round++) {
    const Mass a = Mass{0xD2511F53u} * c[0], b = Mass{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; i++) c[i] = next[i];
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c[0] | static_cast<Mass>(c[1]) << 32;
}

/// The upper 64 bits of a * b.
CRIA_DEVICE Mass multiply_high(Mass a, Mass b) {
  const Mass a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
  const Mass middle = a1 * b0 + (a0 * b0 >> 32), lower = a0 * b1 + (middle & 0xffffffffu);
  return a1 * b1 + (middle >> 32) + (lower >> 32);
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

/// A row and what is kept of it: the tokens whose key is at most `last_key`, and that are not forbidden.
struct SampleRow {
  const float* logits;
  int n;
  bool aligned;
  float max_logit;
  Mass last_key;

  /// visit(logit, key) for the kept tokens, each by one thread.
  template <class Visitor>
  CRIA_DEVICE void visit(Visitor visitor) const {
    for (int i = thread_in_block() * 4; i < n; i += kSampleThreads * 4) {
      const float4 four = load_four(logits, i, n, aligned);
      const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (values[j] == -INFINITY) continue;
        const Mass key = key_of(values[j], static_cast<uint32_t>(i + j));
        if (key <= last_key) visitor(values[j], key);
      }
    }
  }
};

/// The key at which the kept tokens, in the order of their keys, have reached `missing`: in tokens, or in
/// weight at temperature 1. A histogram of distances from the largest finds the 1/64 in which it happens;
/// the tokens of that are compared with each other.
template <bool kByWeight>
CRIA_DEVICE void keep_until_reached(SampleRow& row, double share, Mass count, SampleShared& shared) {
  const int me = thread_in_block();
  const auto amount = [&](float logit) -> Mass {
    return kByWeight ? weight_of(logit, row.max_logit, 1.0f) : 1;
  };
  shared.steps[2 * me] = shared.steps[2 * me + 1] = 0;
  if (me == 0) shared.count[0] = 0;
  __syncthreads();
  row.visit([&](float logit, Mass) {
    const Mass x = amount(logit);
    if (x) atomicAdd(&shared.steps[distance_step(logit, row.max_logit)], x);
  });
  __syncthreads();
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
    return;
  }
  if (before < missing && before + mine >= missing) {
    const bool second = before + shared.steps[2 * me] < missing;
    shared.step[0] = 2 * me + second;
    shared.found[0] = missing - before - (second ? shared.steps[2 * me] : 0);
    shared.found[1] = ~Mass{0};  // of the keys of that step: the smallest, the largest
    shared.found[2] = 0;
  }
  __syncthreads();
  const int step = shared.step[0];
  missing = shared.found[0];
  int listed = 0;
  row.visit([&](float logit, Mass key) {
    if (distance_step(logit, row.max_logit) != step) return;
    const int at = atomicAdd(&shared.count[0], 1);
    if (at >= kSampleList) return;
    shared.keys[at] = key;
    shared.weights[at] = amount(logit);
  });
  __syncthreads();
  listed = shared.count[0];
  if (listed > kSampleList) {
    // Many alike. Halves the range of keys until what is left fits the list.
    row.visit([&](float logit, Mass key) {
      if (distance_step(logit, row.max_logit) != step) return;
      atomicMin(&shared.found[1], key);
      atomicMax(&shared.found[2], key);
    });
    __syncthreads();
    Mass low = shared.found[1], high = shared.found[2];
    while (listed > kSampleList) {
      const Mass middle = low + (high - low) / 2;
      Mass reached = 0, n = 0;
      row.visit([&](float logit, Mass key) {
        if (key < low || key > middle || distance_step(logit, row.max_logit) != step) return;
        reached += amount(logit);
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
    if (me == 0) shared.count[0] = 0;
    __syncthreads();
    row.visit([&](float logit, Mass key) {
      if (key < low || key > high || distance_step(logit, row.max_logit) != step) return;
      const int at = atomicAdd(&shared.count[0], 1);
      shared.keys[at] = key;
      shared.weights[at] = amount(logit);
    });
    __syncthreads();
  }
  if (me < listed) {
    const Mass key = shared.keys[me], weight = shared.weights[me];
    Mass reached = 0;
    for (int i = 0; i < listed; i++)
      if (shared.keys[i] <= key) reached += shared.weights[i];
    if (reached >= missing && reached - weight < missing) shared.found[3] = key;
  }
  __syncthreads();
  row.last_key = shared.found[3];
  __syncthreads();
}

}  // namespace

// One block a row. The stages are those of sampler/sampler.h.
static __global__ void __launch_bounds__(kSampleThreads)
    sample_kernel(const float* logits, int64_t vocab, const TokenSampling* sampling, uint32_t* ids) {
  SampleShared& shared = shared_memory<SampleShared>();
  const TokenSampling params = sampling[blockIdx.x];
  SampleRow row;
  row.logits = logits + static_cast<int64_t>(blockIdx.x) * vocab;
  row.n = static_cast<int>(vocab);
  row.aligned = reinterpret_cast<size_t>(row.logits) % 16 == 0;

  float max_logit = -INFINITY;
  uint32_t id = kNoToken;
  bool unsound = false;
  for (int i = thread_in_block() * 4; i < row.n; i += kSampleThreads * 4) {
    const float4 four = load_four(row.logits, i, row.n, row.aligned);
    const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      unsound |= is_unsound(values[j]);
      if (values[j] > max_logit) {
        max_logit = values[j];
        id = static_cast<uint32_t>(i + j);
      }
    }
  }
  for (int step = 16; step; step /= 2)
    keep_larger(max_logit, id, __shfl_xor_sync(kFullWarp, max_logit, step),
                __shfl_xor_sync(kFullWarp, id, step));
  if (lane_in_warp() == 0) {
    shared.max_logit[warp_in_block()] = max_logit;
    shared.id[warp_in_block()] = id;
  }
  unsound = __syncthreads_or(unsound) != 0;
  for (int w = 0; w < kSampleWarps; w++) keep_larger(max_logit, id, shared.max_logit[w], shared.id[w]);
  if (unsound || max_logit == -INFINITY || params.greedy) {
    if (thread_in_block() == 0) ids[blockIdx.x] = unsound ? kNoToken : id;
    return;
  }
  row.max_logit = max_logit;
  row.last_key = ~Mass{0};
  if (params.top_k > 0 && params.top_k < row.n)
    keep_until_reached<false>(row, 0.0, static_cast<Mass>(params.top_k), shared);
  if (params.top_p < 1.0) keep_until_reached<true>(row, params.top_p, 0, shared);

  // The draw, in the order of the ids: each warp has a range of them.
  const int range = (row.n + kSampleThreads - 1) / kSampleThreads * kWarpSize;
  const auto weight_at = [&](int i) -> Mass {
    if (i >= row.n) return 0;
    const float logit = row.logits[i];
    if (logit == -INFINITY || key_of(logit, static_cast<uint32_t>(i)) > row.last_key) return 0;
    if (!(logit - row.max_logit >= params.min_distance)) return 0;
    return weight_of(logit, row.max_logit, params.inverse_temperature);
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
      ids[blockIdx.x] = static_cast<uint32_t>(first + i + lane_in_warp());
    before = __shfl_sync(kFullWarp, reached, kWarpSize - 1);
    if (before > target) return;
  }
}

TokenSampling token_sampling(double temperature, std::int32_t top_k, double top_p, double min_p,
                             std::uint64_t seed, std::uint64_t position) {
  TokenSampling s{};
  s.top_p = top_p;
  s.seed = seed;
  s.position = position;
  s.greedy = temperature == 0;
  const double inverse = 1.0 / temperature;
  s.inverse_temperature =
      static_cast<float>(inverse < static_cast<double>(FLT_MAX) ? inverse : static_cast<double>(FLT_MAX));
  s.min_distance = min_p > 0 ? static_cast<float>(std::log(min_p)) : -INFINITY;
  s.top_k = top_k;
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
