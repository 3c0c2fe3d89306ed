// Kernels with deliberate bugs, which the emulator must find. The correct tiled product also tests cp.async,
// ldmatrix, mma and mbarriers together. All pointers are to device memory.
#pragma once

#include <cstdint>

namespace cria::test {

enum class Mutation {
  none,
  barrier_removed,         // between filling and reading a stage
  wait_removed,            // for the asynchronous copies
  wait_too_weak,           // one group too few
  load_bounds_removed,     // reads rows beyond the matrix
  store_bounds_removed,    // writes them
  fragments_swapped,       // two registers of A
  wrong_parity,            // of the mbarrier
  arrival_missing,         // one thread does not arrive at the mbarrier
  shared_overrun,          // an index one too far
  shared_overrun_pointer,  // the same through a pointer
  early_exit,              // some threads leave before a barrier
  divergent_barrier,       // some threads skip it
  divergent_shuffle,       // half a warp calls a shuffle of the whole warp
  shuffle_outside_mask,    // reads a lane outside the mask
  fence_removed,           // before the counter of finished blocks
  counter_not_reset,       // for the next launch
  uninitialised_shared,    // read before it is written
  syncwarp_removed,        // between a write and another lane's read
  bytes_misannounced,      // a bulk copy is shorter than the mbarrier expects
  reused_too_early,        // a bulk copy overwrites a stage that is still read
};

/// c[m, n] = a[m, k] * b[n, k]^T; a and b are f16, k is a multiple of 8. Stages synchronize by mbarriers, or
/// by cp.async groups and __syncthreads.
void tiled_product(Mutation mutation, bool mbarriers, const std::uint16_t* a, const std::uint16_t* b,
                   float* c, int m, int n, int k);
/// sum += all of x, by the last block; *counter is 0 before and after.
void grid_sum(Mutation mutation, const float* x, float* parts, std::uint32_t* counter, float* sum, int n,
              int blocks);
/// out[i] = x[i - 1] + x[i] + x[i + 1], with zeros outside; n is at most 256.
void neighbours(Mutation mutation, const float* x, float* out, int n);
/// out[i] = x[n - 1 - i] through shared memory filled by bulk copies; n is a multiple of 64.
void reverse_bulk(Mutation mutation, const float* x, float* out, int n);

}  // namespace cria::test
