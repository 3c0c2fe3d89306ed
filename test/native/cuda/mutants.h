// Kernels, each with ways to break it: what proves that the emulator finds such faults. The tiled product is
// also the proof that cp.async, ldmatrix, mma and mbarriers work together. All pointers are to device memory.
#pragma once

#include <cstdint>

namespace cria::test {

enum class Mutation {
  none,
  barrier_removed,         // between filling and reading a stage
  wait_removed,            // for the asynchronous copies
  wait_too_weak,           // one group too few
  load_bounds_removed,     // rows beyond the matrix are read
  store_bounds_removed,    // and written
  fragments_swapped,       // two registers of A
  wrong_parity,            // of the mbarrier
  arrival_missing,         // one thread does not arrive at the mbarrier
  shared_overrun,          // an index one too far
  shared_overrun_pointer,  // the same through a pointer
  early_exit,              // some threads leave before a barrier
  divergent_barrier,       // some threads skip it
  divergent_shuffle,       // half a warp comes to a shuffle of the whole
  shuffle_outside_mask,    // reads a lane that takes no part
  fence_removed,           // before the counter of finished blocks
  counter_not_reset,       // for the next launch
  uninitialised_shared,    // read before anything was written
  syncwarp_removed,        // between a write and another lane's read
  bytes_misannounced,      // a bulk copy is shorter than what the mbarrier expects
  reused_too_early,        // a bulk copy into a stage that is still read
};

/// c[m, n] = a[m, k] * b[n, k]^T; a and b are f16, k is a multiple of 8. The stages are counted by mbarriers
/// or by groups and __syncthreads.
void tiled_product(Mutation mutation, bool mbarriers, const std::uint16_t* a, const std::uint16_t* b,
                   float* c, int m, int n, int k);
/// sum += all of x, by the last block; *counter is 0 before and after.
void grid_sum(Mutation mutation, const float* x, float* parts, std::uint32_t* counter, float* sum, int n,
              int blocks);
/// out[i] = the sum of x[i - 1], x[i], x[i + 1] with zeros outside, n at most 256.
void neighbours(Mutation mutation, const float* x, float* out, int n);
/// out[i] = x[n - 1 - i] through shared memory filled by bulk copies; n is a multiple of 64.
void reverse_bulk(Mutation mutation, const float* x, float* out, int n);

}  // namespace cria::test
