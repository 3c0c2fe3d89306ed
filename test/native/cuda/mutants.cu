#include "cuda/mutants.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx.cuh"

namespace cria::test {

using namespace cria::cuda;

// ---- a tiled product: a block computes 64 x 64 of c, in stages of 32 of k, with four warps of 32 x 32 ----

constexpr int kTile = 64, kDepth = 32, kPitch = kDepth + 8, kStages = 3, kThreads = 128;

struct ProductShared {
  SharedArray<uint16_t, kStages * kTile * kPitch> a, b;
  SharedArray<uint64_t, kStages> full;
};

/// A warp's 32 x 32 of c as fragments.
struct ProductSums {
  float v[2][4][4];
};

/// Starts copying stage `step`; zeros beyond the matrices.
template <Mutation kMutation, bool kMbarriers>
CRIA_DEVICE void fetch_product(ProductShared& shared, const uint16_t* a, const uint16_t* b, int m, int n,
                               int k, int step) {
  const int thread = thread_in_block(), first_row = static_cast<int>(blockIdx.y) * kTile,
            first_column = static_cast<int>(blockIdx.x) * kTile;
  if (step * kDepth < k) {
    const int stage = step % kStages * kTile * kPitch;
    for (int i = thread; i < kTile * kDepth / 8; i += kThreads) {
      const int row = i / (kDepth / 8), column = i % (kDepth / 8) * 8, at = step * kDepth + column;
      const bool inside = at < k;
      const bool a_inside = kMutation == Mutation::load_bounds_removed || (inside && first_row + row < m);
      const bool b_inside = inside && first_column + row < n;
      cp_async<16>(&shared.a[stage + row * kPitch + column],
                   a + (a_inside ? static_cast<size_t>(first_row + row) * k + at : 0), a_inside);
      cp_async<16>(&shared.b[stage + row * kPitch + column],
                   b + (b_inside ? static_cast<size_t>(first_column + row) * k + at : 0), b_inside);
    }
#ifdef CRIA_HAS_MBARRIER
    if constexpr (kMbarriers)
      if (kMutation != Mutation::arrival_missing || thread != 77)
        cp_async_mbarrier_arrive(&shared.full[step % kStages]);
#endif
  }
  if constexpr (!kMbarriers) cp_async_commit();
}

/// sums += the products of a stage.
template <Mutation kMutation>
CRIA_DEVICE void multiply_product(ProductSums& sums, ProductShared& shared, int stage) {
  const int lane = lane_in_warp(), warp = warp_in_block();
  for (int inner = 0; inner < kDepth; inner += 16) {
    uint32_t fa[2][4], fb[4][2];
    for (int i = 0; i < 2; i++) {
      const int row = warp / 2 * 32 + i * 16 + lane % 16;
      load_matrix_x4(fa[i], &shared.a[stage + row * kPitch + inner + lane / 16 * 8]);
      if (kMutation == Mutation::fragments_swapped) {
        const uint32_t swapped = fa[i][1];
        fa[i][1] = fa[i][2];
        fa[i][2] = swapped;
      }
    }
    for (int j = 0; j < 4; j++) {
      const int column = warp % 2 * 32 + j * 8 + lane % 8;
      load_matrix_x2(fb[j], &shared.b[stage + column * kPitch + inner + lane / 8 % 2 * 8]);
    }
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 4; j++) mma_f16(sums.v[i][j], fa[i], fb[j]);
  }
}

template <Mutation kMutation>
CRIA_DEVICE void store_product_tile(const ProductSums& sums, float* c, int m, int n) {
  const int lane = lane_in_warp(), warp = warp_in_block(), first_row = static_cast<int>(blockIdx.y) * kTile,
            first_column = static_cast<int>(blockIdx.x) * kTile;
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 4; j++)
      for (int e = 0; e < 4; e++) {
        const int row = first_row + warp / 2 * 32 + i * 16 + e / 2 * 8 + lane / 4;
        const int column = first_column + warp % 2 * 32 + j * 8 + lane % 4 * 2 + e % 2;
        if ((kMutation == Mutation::store_bounds_removed || row < m) && column < n)
          c[static_cast<size_t>(row) * n + column] = sums.v[i][j][e];
      }
}

template <Mutation kMutation, bool kMbarriers>
static __global__ void __launch_bounds__(kThreads)
    tiled_product_kernel(const uint16_t* a, const uint16_t* b, float* c, int m, int n, int k) {
  constexpr auto is = [](Mutation mutation) { return kMutation == mutation; };
  ProductShared& shared = shared_memory<ProductShared>();
  const int thread = thread_in_block(), steps = (k + kDepth - 1) / kDepth;
#ifdef CRIA_HAS_MBARRIER
  if constexpr (kMbarriers) {
    if (thread == 0)
      for (int s = 0; s < kStages; s++) mbarrier_init(&shared.full[s], kThreads);
    __syncthreads();
  }
#endif
  ProductSums sums = {};
  for (int s = 0; s < kStages - 1; s++) fetch_product<kMutation, kMbarriers>(shared, a, b, m, n, k, s);
  for (int step = 0; step < steps; step++) {
    if constexpr (!kMbarriers) {
      if (is(Mutation::wait_too_weak))
        cp_async_wait<kStages - 1>();
      else if (!is(Mutation::wait_removed))
        cp_async_wait<kStages - 2>();
    }
    if (!is(Mutation::barrier_removed) && (!is(Mutation::divergent_barrier) || thread < 96 || step != 1))
      __syncthreads();
    fetch_product<kMutation, kMbarriers>(shared, a, b, m, n, k, step + kStages - 1);
#ifdef CRIA_HAS_MBARRIER
    if constexpr (kMbarriers)
      if (!is(Mutation::wait_removed))
        mbarrier_wait(&shared.full[step % kStages],
                      static_cast<uint32_t>((step / kStages + is(Mutation::wrong_parity)) % 2));
#endif
    multiply_product<kMutation>(sums, shared, step % kStages * kTile * kPitch);
  }
  if constexpr (!kMbarriers) cp_async_wait<0>();
  store_product_tile<kMutation>(sums, c, m, n);
}

template <Mutation kMutation>
static void launch_product(bool mbarriers, const uint16_t* a, const uint16_t* b, float* c, int m, int n,
                           int k) {
  launch({.name = "tiled_product",
          .grid = {static_cast<unsigned>((n + kTile - 1) / kTile),
                   static_cast<unsigned>((m + kTile - 1) / kTile)},
          .block = {kThreads}},
         mbarriers ? tiled_product_kernel<kMutation, true> : tiled_product_kernel<kMutation, false>, a, b, c,
         m, n, k);
}

void tiled_product(Mutation mutation, bool mbarriers, const std::uint16_t* a, const std::uint16_t* b,
                   float* c, int m, int n, int k) {
  switch (mutation) {
    case Mutation::none: return launch_product<Mutation::none>(mbarriers, a, b, c, m, n, k);
#ifdef CRIA_CUDA_EMULATED
#define CRIA_MUTANT(name) \
  case Mutation::name: return launch_product<Mutation::name>(mbarriers, a, b, c, m, n, k);
      CRIA_MUTANT(barrier_removed)
      CRIA_MUTANT(wait_removed)
      CRIA_MUTANT(wait_too_weak)
      CRIA_MUTANT(load_bounds_removed)
      CRIA_MUTANT(store_bounds_removed)
      CRIA_MUTANT(fragments_swapped)
      CRIA_MUTANT(wrong_parity)
      CRIA_MUTANT(arrival_missing)
      CRIA_MUTANT(divergent_barrier)
#undef CRIA_MUTANT
#endif
    default: return;
  }
}

// ---- a sum over the grid ----

struct GridSumShared {
  SharedArray<float, 4> warps;
  bool last;
};

template <Mutation kMutation>
static __global__ void grid_sum_kernel(const float* x, float* parts, uint32_t* counter, float* sum, int n) {
  constexpr auto is = [](Mutation mutation) { return kMutation == mutation; };
  GridSumShared& shared = shared_memory<GridSumShared>();
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  float mine = 0.0f;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x) + thread_in_block(); i < n; i += stride)
    mine += x[i];
  if (is(Mutation::divergent_shuffle)) {
    if (lane_in_warp() < 16) mine = warp_sum(mine);
  } else if (is(Mutation::shuffle_outside_mask)) {
    if (lane_in_warp() < 16) mine += __shfl_down_sync(0x0000ffffu, mine, 8);
  }
  mine = warp_sum(mine);
  if (lane_in_warp() == 0) shared.warps[warp_in_block()] = mine;
  if (is(Mutation::early_exit) && thread_in_block() == 100) return;
  if (!is(Mutation::barrier_removed)) __syncthreads();
  if (thread_in_block() == 0) {
    float total = 0.0f;
    for (int w = 0; w < 4; w++) total += shared.warps[w];
    parts[blockIdx.x] = total;
    if (!is(Mutation::fence_removed)) __threadfence();
    shared.last = atomicAdd(counter, 1u) == gridDim.x - 1;
    if (shared.last) __threadfence();
  }
  __syncthreads();
  if (!shared.last || thread_in_block() != 0) return;
  float total = 0.0f;
  for (unsigned b = 0; b < gridDim.x; b++) total += parts[b];
  *sum += total;
  if (!is(Mutation::counter_not_reset)) *counter = 0;
}

template <Mutation kMutation>
static void launch_sum(const float* x, float* parts, uint32_t* counter, float* sum, int n, int blocks) {
  launch({.name = "grid_sum", .grid = {static_cast<unsigned>(blocks)}, .block = {128}},
         grid_sum_kernel<kMutation>, x, parts, counter, sum, n);
}

void grid_sum(Mutation mutation, const float* x, float* parts, std::uint32_t* counter, float* sum, int n,
              int blocks) {
  switch (mutation) {
    case Mutation::none: return launch_sum<Mutation::none>(x, parts, counter, sum, n, blocks);
#ifdef CRIA_CUDA_EMULATED
#define CRIA_MUTANT(name) \
  case Mutation::name: return launch_sum<Mutation::name>(x, parts, counter, sum, n, blocks);
      CRIA_MUTANT(barrier_removed)
      CRIA_MUTANT(divergent_shuffle)
      CRIA_MUTANT(shuffle_outside_mask)
      CRIA_MUTANT(early_exit)
      CRIA_MUTANT(fence_removed)
      CRIA_MUTANT(counter_not_reset)
#undef CRIA_MUTANT
#endif
    default: return;
  }
}

// ---- neighbours through shared memory ----

struct NeighboursShared {
  SharedArray<float, 258> values;
  SharedArray<float, 8> others;
};

template <Mutation kMutation>
static __global__ void neighbours_kernel(const float* x, float* out, int n) {
  constexpr auto is = [](Mutation mutation) { return kMutation == mutation; };
  NeighboursShared& shared = shared_memory<NeighboursShared>();
  const int i = thread_in_block();
  shared.values[i + 1] = i < n ? x[i] : 0.0f;
  if (i == 0 && !is(Mutation::uninitialised_shared)) shared.values[0] = 0.0f;
  if (i == 0) shared.values[257] = 0.0f;
  if (i == 255 && is(Mutation::shared_overrun)) shared.values[i + 3] = 0.0f;
  if (i == 255 && is(Mutation::shared_overrun_pointer)) shared.values.data()[i + 3] = 0.0f;
  __syncthreads();
  float sum = shared.values[i] + shared.values[i + 1] + shared.values[i + 2];
  // Passes values around the warp's lanes through memory: adds and subtracts the next lane's.
  __syncthreads();
  shared.values[i] = sum;
  if (!is(Mutation::syncwarp_removed)) __syncwarp();
  sum = shared.values[(i & ~31) | (31 - (i & 31))];
  __syncwarp();
  shared.values[i] = sum;
  __syncwarp();
  sum = shared.values[(i & ~31) | (31 - (i & 31))];
  if (i < n) out[i] = sum;
}

template <Mutation kMutation>
static void launch_neighbours(const float* x, float* out, int n) {
  launch({.name = "neighbours", .block = {256}}, neighbours_kernel<kMutation>, x, out, n);
}

void neighbours(Mutation mutation, const float* x, float* out, int n) {
  switch (mutation) {
    case Mutation::none: return launch_neighbours<Mutation::none>(x, out, n);
#ifdef CRIA_CUDA_EMULATED
#define CRIA_MUTANT(name) \
  case Mutation::name: return launch_neighbours<Mutation::name>(x, out, n);
      CRIA_MUTANT(shared_overrun)
      CRIA_MUTANT(shared_overrun_pointer)
      CRIA_MUTANT(uninitialised_shared)
      CRIA_MUTANT(syncwarp_removed)
#undef CRIA_MUTANT
#endif
    default: return;
  }
}

// ---- bulk copies, two stages: one warp copies, another reverses ----

constexpr int kPiece = 64;

struct ReverseShared {
  SharedArray<float, 2 * kPiece> stages;
  SharedArray<uint64_t, 2> full, empty;
};

template <Mutation kMutation>
static __global__ void reverse_bulk_kernel([[maybe_unused]] const float* x, [[maybe_unused]] float* out,
                                           [[maybe_unused]] int n) {
#ifdef CRIA_HAS_BULK_COPY
  constexpr auto is = [](Mutation mutation) { return kMutation == mutation; };
  ReverseShared& shared = shared_memory<ReverseShared>();
  if (thread_in_block() == 0) {
    for (int s = 0; s < 2; s++) {
      mbarrier_init(&shared.full[s], 1);
      mbarrier_init(&shared.empty[s], kWarpSize);
    }
    mbarrier_fence_init();
  }
  __syncthreads();
  const int pieces = n / kPiece;
  constexpr uint32_t kBytes = kPiece * sizeof(float);
  if (warp_in_block() == 0) {
    if (lane_in_warp() == 0)
      for (int p = 0; p < pieces; p++) {
        if (!is(Mutation::reused_too_early))
          mbarrier_wait(&shared.empty[p % 2], static_cast<uint32_t>(p / 2 % 2 ^ 1));
        mbarrier_arrive_expect(&shared.full[p % 2], kBytes);
        bulk_copy(&shared.stages[p % 2 * kPiece], x + p * kPiece,
                  is(Mutation::bytes_misannounced) ? kBytes - 16 : kBytes, &shared.full[p % 2]);
      }
    return;
  }
  for (int p = 0; p < pieces; p++) {
    if (!is(Mutation::wait_removed)) mbarrier_wait(&shared.full[p % 2], static_cast<uint32_t>(p / 2 % 2));
    for (int i = lane_in_warp(); i < kPiece; i += kWarpSize)
      out[n - 1 - (p * kPiece + i)] = shared.stages[p % 2 * kPiece + i];
    mbarrier_arrive(&shared.empty[p % 2]);
  }
#endif
}

template <Mutation kMutation>
static void launch_reverse(const float* x, float* out, int n) {
  launch({.name = "reverse_bulk", .block = {64}}, reverse_bulk_kernel<kMutation>, x, out, n);
}

void reverse_bulk(Mutation mutation, const float* x, float* out, int n) {
  switch (mutation) {
    case Mutation::none: return launch_reverse<Mutation::none>(x, out, n);
#ifdef CRIA_CUDA_EMULATED
#define CRIA_MUTANT(name) \
  case Mutation::name: return launch_reverse<Mutation::name>(x, out, n);
      CRIA_MUTANT(wait_removed)
      CRIA_MUTANT(bytes_misannounced)
      CRIA_MUTANT(reused_too_early)
#undef CRIA_MUTANT
#endif
    default: return;
  }
}

}  // namespace cria::test
