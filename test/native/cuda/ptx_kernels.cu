#include "cuda/ptx_kernels.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::test {

using namespace cria::cuda;

namespace {

unsigned blocks_of(int n, int threads) { return static_cast<unsigned>((n + threads - 1) / threads); }

}  // namespace

CRIA_DEVICE int global_thread() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

static __global__ void narrow_kernel(const float* x, uint16_t* f16, uint16_t* bf16, uint32_t* f16x2,
                                     uint32_t* bf16x2, int n) {
  const int i = global_thread();
  if (i >= n) return;
  f16[i] = float_to_f16(x[i]);
  bf16[i] = float_to_bf16(x[i]);
  f16x2[i] = pack_f16x2(x[i], x[n - 1 - i]);
  bf16x2[i] = pack_bf16x2(x[i], x[n - 1 - i]);
}
void narrow(const float* x, std::uint16_t* f16, std::uint16_t* bf16, std::uint32_t* f16x2,
            std::uint32_t* bf16x2, int n) {
  launch({.name = "narrow", .grid = {blocks_of(n, 128)}, .block = {128}}, narrow_kernel, x, f16, bf16, f16x2,
         bf16x2, n);
}

static __global__ void widen_kernel(const uint16_t* x, float* f16, float* bf16, int n) {
  const int i = global_thread();
  if (i >= n) return;
  f16[i] = f16_to_float(x[i]);
  bf16[i] = bf16_to_float(x[i]);
}
void widen(const std::uint16_t* x, float* f16, float* bf16, int n) {
  launch({.name = "widen", .grid = {blocks_of(n, 128)}, .block = {128}}, widen_kernel, x, f16, bf16, n);
}

static __global__ void pair_arithmetic_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                                              uint32_t* out, int n) {
  const int i = global_thread();
  if (i >= n) return;
  out[i] = fma_f16x2(a[i], b[i], c[i]);
  out[n + i] = add_f16x2(a[i], b[i]);
  out[2 * n + i] = sub_f16x2(a[i], b[i]);
  out[3 * n + i] = mul_f16x2(a[i], b[i]);
}
void pair_arithmetic(const std::uint32_t* a, const std::uint32_t* b, const std::uint32_t* c,
                     std::uint32_t* out, int n) {
  launch({.name = "pair_arithmetic", .grid = {blocks_of(n, 128)}, .block = {128}}, pair_arithmetic_kernel, a,
         b, c, out, n);
}

static __global__ void integer_arithmetic_kernel(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                                                 uint32_t* out, int n) {
  const int i = global_thread();
  if (i >= n) return;
  out[i] = static_cast<uint32_t>(
      dp4a(static_cast<int32_t>(a[i]), static_cast<int32_t>(b[i]), static_cast<int32_t>(c[i])));
  out[n + i] =
      static_cast<uint32_t>(dp4a_unsigned(a[i], static_cast<int32_t>(b[i]), static_cast<int32_t>(c[i])));
  out[2 * n + i] = lop3<0xea>(a[i], b[i], c[i]);
  out[3 * n + i] = lop3<0x6a>(a[i], b[i], c[i]);
  out[4 * n + i] = __byte_perm(a[i], b[i], c[i] & 0x7777u);
  out[5 * n + i] = static_cast<uint32_t>(__popc(a[i]));
  out[6 * n + i] = static_cast<uint32_t>(__clz(static_cast<int>(a[i])));
}
void integer_arithmetic(const std::uint32_t* a, const std::uint32_t* b, const std::uint32_t* c,
                        std::uint32_t* out, int n) {
  launch({.name = "integer_arithmetic", .grid = {blocks_of(n, 128)}, .block = {128}},
         integer_arithmetic_kernel, a, b, c, out, n);
}

static __global__ void approximations_kernel(const float* x, float* out, int n) {
  const int i = global_thread();
  if (i >= n) return;
  out[i] = exp2_approx(x[i]);
  out[n + i] = reciprocal_approx(x[i]);
}
void approximations(const float* x, float* out, int n) {
  launch({.name = "approximations", .grid = {blocks_of(n, 128)}, .block = {128}}, approximations_kernel, x,
         out, n);
}

static __global__ void warp_collectives_kernel(const uint32_t* x, uint32_t* out) {
  const int lane = lane_in_warp();
  const uint32_t v = x[lane];
  int all_equal = 0;
  const uint32_t half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  const uint32_t results[kWarpCollectives] = {
      __shfl_sync(kFullWarp, v, (lane * 7 + 3) % 32),
      __shfl_xor_sync(kFullWarp, v, 5),
      __shfl_up_sync(kFullWarp, v, 3),
      __shfl_down_sync(kFullWarp, v, 9),
      __shfl_sync(kFullWarp, v, 11, 8),
      __shfl_down_sync(kFullWarp, v, 2, 16),
      __ballot_sync(kFullWarp, v & 1),
      static_cast<uint32_t>(__any_sync(kFullWarp, v == x[0])),
      static_cast<uint32_t>(__all_sync(kFullWarp, v == x[0])),
      __match_any_sync(half, v & 3),
      __match_all_sync(kFullWarp, v & 0, &all_equal),
      static_cast<uint32_t>(warp_sum(static_cast<int32_t>(v))),
      warp_max(v),
      warp_min(v),
  };
  for (int i = 0; i < kWarpCollectives; i++) out[i * 32 + lane] = results[i];
}
void warp_collectives(const std::uint32_t* x, std::uint32_t* out) {
  launch({.name = "warp_collectives", .block = {32}}, warp_collectives_kernel, x, out);
}

// ---- copies ----

constexpr int kStages = 4, kCopyThreads = 64;  // a stage: 16 bytes a thread
static_assert(kCopiedOver == kCopyThreads);

struct CopyShared {
  SharedArray<uint4, kStages * kCopyThreads> stages;
};

template <int kBytes>
static __global__ void copy_cp_async_kernel(const uint32_t* from, const int* valid, uint32_t* to, int n) {
  CopyShared& shared = shared_memory<CopyShared>();
  const int steps = (n + kCopyThreads - 1) / kCopyThreads;
  const auto fetch = [&](int step) {
    const int i = step * kCopyThreads + thread_in_block();
    if (step < steps && i < n) {
      auto* at = reinterpret_cast<char*>(&shared.stages[step % kStages * kCopyThreads + thread_in_block()]);
      for (int b = 0; b < 16; b += kBytes)
        cp_async<kBytes>(at + b, reinterpret_cast<const char*>(from + 4 * i) + b, valid[i] != 0);
    }
    cp_async_commit();
  };
  for (int s = 0; s < kStages - 1; s++) fetch(s);
  for (int step = 0; step < steps; step++) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    fetch(step + kStages - 1);  // into the stage that was read before the barrier
    // Reads another thread's copy, so that the barrier matters.
    const int other = kCopyThreads - 1 - thread_in_block(), i = step * kCopyThreads + other;
    if (i < n) {
      const uint4 v = shared.stages[step % kStages * kCopyThreads + other];
      to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
    }
  }
  cp_async_wait<0>();
}
void copy_cp_async(int bytes, const std::uint32_t* from, const int* valid, std::uint32_t* to, int n) {
  const auto kernel = bytes == 4   ? copy_cp_async_kernel<4>
                      : bytes == 8 ? copy_cp_async_kernel<8>
                                   : copy_cp_async_kernel<16>;
  launch({.name = "copy_cp_async", .block = {kCopyThreads}}, kernel, from, valid, to, n);
}

struct BarrierShared {
  SharedArray<uint4, kStages * kCopyThreads> stages;
  SharedArray<uint64_t, kStages> full, empty;
};

static __global__ void copy_mbarrier_kernel([[maybe_unused]] const uint32_t* from,
                                            [[maybe_unused]] uint32_t* to, [[maybe_unused]] int n) {
#ifdef CRIA_HAS_MBARRIER
  BarrierShared& shared = shared_memory<BarrierShared>();
  if (thread_in_block() == 0)
    for (int s = 0; s < kStages; s++) mbarrier_init(&shared.full[s], kCopyThreads);
  __syncthreads();
  const int steps = (n + kCopyThreads - 1) / kCopyThreads;
  const auto fetch = [&](int step) {
    const int i = step * kCopyThreads + thread_in_block();
    if (i < n) cp_async<16>(&shared.stages[step % kStages * kCopyThreads + thread_in_block()], from + 4 * i);
    cp_async_mbarrier_arrive(&shared.full[step % kStages]);
  };
  for (int s = 0; s < kStages - 1 && s < steps; s++) fetch(s);
  for (int step = 0; step < steps; step++) {
    __syncthreads();  // all threads have read the stage that is filled next
    if (step + kStages - 1 < steps) fetch(step + kStages - 1);
    mbarrier_wait(&shared.full[step % kStages], static_cast<uint32_t>(step / kStages % 2));
    const int other = kCopyThreads - 1 - thread_in_block(), i = step * kCopyThreads + other;
    if (i < n) *reinterpret_cast<uint4*>(to + 4 * i) = shared.stages[step % kStages * kCopyThreads + other];
  }
#endif
}
// One warp copies; the other reads, and signals when a stage is free again.
static __global__ void copy_bulk_kernel([[maybe_unused]] const uint32_t* from, [[maybe_unused]] uint32_t* to,
                                        [[maybe_unused]] int n) {
#ifdef CRIA_HAS_BULK_COPY
  BarrierShared& shared = shared_memory<BarrierShared>();
  if (thread_in_block() == 0) {
    for (int s = 0; s < kStages; s++) {
      mbarrier_init(&shared.full[s], 1);
      mbarrier_init(&shared.empty[s], kWarpSize);
    }
    mbarrier_fence_init();
  }
  __syncthreads();
  const int steps = (n + kCopyThreads - 1) / kCopyThreads;
  if (warp_in_block() == 0) {
    if (lane_in_warp() == 0)
      for (int step = 0; step < steps; step++) {
        const int s = step % kStages, first = step * kCopyThreads, count = min(kCopyThreads, n - first);
        const auto bytes = static_cast<uint32_t>(16 * count);
        mbarrier_wait(&shared.empty[s], static_cast<uint32_t>(step / kStages % 2 ^ 1));  // the first at once
        mbarrier_arrive_expect(&shared.full[s], bytes);
        bulk_copy(&shared.stages[s * kCopyThreads], from + 4 * first, bytes, &shared.full[s]);
      }
  } else {
    for (int step = 0; step < steps; step++) {
      const int s = step % kStages, first = step * kCopyThreads, count = min(kCopyThreads, n - first);
      mbarrier_wait(&shared.full[s], static_cast<uint32_t>(step / kStages % 2));
      for (int i = lane_in_warp(); i < count; i += kWarpSize)
        *reinterpret_cast<uint4*>(to + 4 * (first + i)) = shared.stages[s * kCopyThreads + i];
      mbarrier_arrive(&shared.empty[s]);
    }
  }
#endif
}
// All threads write the stages, then one starts copies over them: the copies must come last.
static __global__ void copy_over_kernel([[maybe_unused]] const uint32_t* from,
                                        [[maybe_unused]] uint32_t* to) {
#ifdef CRIA_HAS_BULK_COPY
  BarrierShared& shared = shared_memory<BarrierShared>();
  const int t = thread_in_block();
  if (t == 0) {
    mbarrier_init(&shared.full[0], 1);
    mbarrier_fence_init();
  }
  shared.stages[t] = uint4{1, 2, 3, 4};
  fence_async_proxy();
  __syncthreads();
  if (t == 0) {
    mbarrier_arrive_expect(&shared.full[0], 16 * kCopyThreads);
    bulk_copy(&shared.stages[0], from, 16 * kCopyThreads, &shared.full[0]);
  }
  mbarrier_wait(&shared.full[0], 0);
  *reinterpret_cast<uint4*>(to + 4 * t) = shared.stages[t];
#endif
}
bool copy_over(const std::uint32_t* from, std::uint32_t* to) {
  if (device_properties(0).major < 9) return false;
  launch({.name = "copy_over", .block = {kCopyThreads}}, copy_over_kernel, from, to);
  return true;
}
bool copy_mbarrier(const std::uint32_t* from, std::uint32_t* to, int n) {
  if (device_properties(0).major < 8) return false;
  launch({.name = "copy_mbarrier", .block = {kCopyThreads}}, copy_mbarrier_kernel, from, to, n);
  return true;
}
bool copy_bulk(const std::uint32_t* from, std::uint32_t* to, int n) {
  if (device_properties(0).major < 9) return false;
  launch({.name = "copy_bulk", .block = {2 * kWarpSize}}, copy_bulk_kernel, from, to, n);
  return true;
}

// ---- matrices ----

struct MatrixShared {
  SharedArray<uint16_t, 4 * 64> values;
};

template <int kMatrices, bool kTransposed>
static __global__ void load_matrices_kernel(const uint16_t* x, uint32_t* out) {
  MatrixShared& shared = shared_memory<MatrixShared>();
  const int lane = lane_in_warp();
  for (int i = lane; i < 4 * 64; i += kWarpSize) shared.values[i] = x[i];
  __syncwarp();
  const void* row = &shared.values[lane * 8];
  uint32_t r[kMatrices];
  if constexpr (kMatrices == 4)
    kTransposed ? load_matrix_x4_transposed(r, row) : load_matrix_x4(r, row);
  else if constexpr (kMatrices == 2)
    kTransposed ? load_matrix_x2_transposed(r, row) : load_matrix_x2(r, row);
  else
    kTransposed ? load_matrix_x1_transposed(r[0], row) : load_matrix_x1(r[0], row);
  for (int i = 0; i < kMatrices; i++) out[i * 32 + lane] = r[i];
}
void load_matrices(int matrices, bool transposed, const std::uint16_t* x, std::uint32_t* out) {
  const auto kernel =
      matrices == 4   ? transposed ? load_matrices_kernel<4, true> : load_matrices_kernel<4, false>
        : matrices == 2 ? transposed ? load_matrices_kernel<2, true> : load_matrices_kernel<2, false>
        : transposed ? load_matrices_kernel<1, true>
                      : load_matrices_kernel<1, false>;
  launch({.name = "load_matrices", .block = {32}}, kernel, x, out);
}

template <Mma kKind>
static __global__ void multiply_fragments_kernel(const uint32_t* a, const uint32_t* b, uint32_t* c) {
  const int lane = lane_in_warp();
  const uint32_t ra[4] = {a[lane], a[32 + lane], a[64 + lane], a[96 + lane]}, rb[2] = {b[lane], b[32 + lane]};
  if constexpr (kKind == Mma::s8) {
    int32_t rc[4];
    for (int i = 0; i < 4; i++) rc[i] = static_cast<int32_t>(c[i * 32 + lane]);
    mma_s8(rc, ra, rb);
    for (int i = 0; i < 4; i++) c[i * 32 + lane] = static_cast<uint32_t>(rc[i]);
  } else {
    float rc[4];
    for (int i = 0; i < 4; i++) rc[i] = float_of_bits(c[i * 32 + lane]);
    kKind == Mma::f16 ? mma_f16(rc, ra, rb) : mma_bf16(rc, ra, rb);
    for (int i = 0; i < 4; i++) c[i * 32 + lane] = bits_of(rc[i]);
  }
}
void multiply_fragments(Mma kind, const std::uint32_t* a, const std::uint32_t* b, std::uint32_t* c) {
  const auto kernel = kind == Mma::f16    ? multiply_fragments_kernel<Mma::f16>
                      : kind == Mma::bf16 ? multiply_fragments_kernel<Mma::bf16>
                                          : multiply_fragments_kernel<Mma::s8>;
  launch({.name = "multiply_fragments", .block = {32}}, kernel, a, b, c);
}

// ---- memory and barriers ----

static __global__ void load_all_ways_kernel(const uint32_t* x, uint32_t* out, int n) {
  const int i = global_thread();
  if (i >= n) return;
  prefetch_l2(x + 4 * i);
  if (i == 0) prefetch_l2_bulk(x, static_cast<uint32_t>(16 * n));
  uint32_t v[4];
  if (i % 4 == 0) {
    const uint4 r = load_streaming(reinterpret_cast<const uint4*>(x + 4 * i));
    v[0] = r.x, v[1] = r.y, v[2] = r.z, v[3] = r.w;
  } else if (i % 4 == 1) {
    const uint2 low = load_streaming(reinterpret_cast<const uint2*>(x + 4 * i)),
                high = load_streaming(reinterpret_cast<const uint2*>(x + 4 * i + 2));
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
  } else if (i % 4 == 2) {
    for (int k = 0; k < 4; k++) v[k] = load_streaming(x + 4 * i + k);
  } else {
    const uint4 r = load_cached(reinterpret_cast<const uint4*>(x + 4 * i));
    v[0] = r.x, v[1] = r.y, v[2] = r.z, v[3] = r.w;
  }
  for (int k = 0; k < 4; k++) out[4 * i + k] = v[k];
}
void load_all_ways(const std::uint32_t* x, std::uint32_t* out, int n) {
  launch({.name = "load_all_ways", .grid = {blocks_of(n, 64)}, .block = {64}}, load_all_ways_kernel, x, out,
         n);
}

struct NamedBarrierShared {
  SharedArray<uint32_t, 64> buffer;
};

static __global__ void named_barriers_kernel(const uint32_t* x, uint32_t* out, int n) {
  constexpr int kFull = 1, kEmpty = 2, kAll = 128;
  NamedBarrierShared& shared = shared_memory<NamedBarrierShared>();
  const int i = thread_in_block() % 64;
  const bool fills = thread_in_block() < 64;
  for (int first = 0; first < n; first += 64) {
    if (fills) {
      if (first > 0) barrier_sync(kEmpty, kAll);
      shared.buffer[i] = first + i < n ? x[first + i] : 0;
      barrier_arrive(kFull, kAll);
    } else {
      barrier_sync(kFull, kAll);
      if (first + 63 - i < n) out[first + 63 - i] = shared.buffer[63 - i] + 1;
      if (first + 64 < n) barrier_arrive(kEmpty, kAll);
    }
  }
}
void named_barriers(const std::uint32_t* x, std::uint32_t* out, int n) {
  launch({.name = "named_barriers", .block = {128}}, named_barriers_kernel, x, out, n);
}

struct LastBlockShared {
  SharedArray<uint32_t, 2> warps;
  bool last;
};

static __global__ void last_block_sum_kernel(const uint32_t* x, uint32_t* parts, uint32_t* counter,
                                             uint32_t* sum, int n) {
  LastBlockShared& shared = shared_memory<LastBlockShared>();
  uint32_t mine = 0;
  for (int i = global_thread(); i < n; i += static_cast<int>(gridDim.x * blockDim.x)) mine += x[i];
  mine = static_cast<uint32_t>(warp_sum(static_cast<int32_t>(mine)));
  if (lane_in_warp() == 0) shared.warps[warp_in_block()] = mine;
  __syncthreads();
  if (thread_in_block() == 0) {
    parts[blockIdx.x] = shared.warps[0] + shared.warps[1];
    __threadfence();
    shared.last = atomicAdd(counter, 1u) == gridDim.x - 1;
    if (shared.last) __threadfence();
  }
  __syncthreads();
  if (!shared.last) return;
  uint32_t total = 0;
  for (int i = thread_in_block(); i < static_cast<int>(gridDim.x); i += 64) total += parts[i];
  total = static_cast<uint32_t>(warp_sum(static_cast<int32_t>(total)));
  if (lane_in_warp() == 0) atomicAdd(sum, total);
  if (thread_in_block() == 0) *counter = 0;
}
void last_block_sum(const std::uint32_t* x, std::uint32_t* parts, std::uint32_t* counter, std::uint32_t* sum,
                    int n, int blocks) {
  launch({.name = "last_block_sum", .grid = {static_cast<unsigned>(blocks)}, .block = {64}},
         last_block_sum_kernel, x, parts, counter, sum, n);
}

static __global__ void pass_token_kernel(uint32_t* token, uint32_t* seen) {
  if (thread_in_block() == 0) {
    while (load_acquire(token) != blockIdx.x) {
    }
    seen[blockIdx.x] = blockIdx.x == 0 ? 1 : seen[blockIdx.x - 1] * 3 + 1;
    if (blockIdx.x % 2)
      store_release(token, blockIdx.x + 1);
    else
      add_acquire_release(token, 1);
  }
}
void pass_token(std::uint32_t* token, std::uint32_t* seen, int blocks) {
  launch({.name = "pass_token", .grid = {static_cast<unsigned>(blocks)}, .block = {32}, .cooperative = true},
         pass_token_kernel, token, seen);
}

static __global__ void add_after_kernel(const uint32_t* x, uint32_t* out, int n) {
  const int i = global_thread();
  const uint32_t mine = i < n ? x[i] : 0;  // not written by an earlier kernel
  grid_dependency_wait();
  grid_launch_dependents();
  // A thread of the next kernel reads what another block of this one writes.
  if (i < n) out[n - 1 - i] += mine;
}
void overlapping_kernels(const std::uint32_t* x, std::uint32_t* out, int n, int rounds) {
  for (int round = 0; round < rounds; round++)
    launch({.name = "add_after",
            .grid = {static_cast<unsigned>((n + 63) / 64)},
            .block = {64},
            .overlaps_previous = round > 0},
           add_after_kernel, x, out, n);
}

}  // namespace cria::test
