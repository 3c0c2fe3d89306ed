// The grids of the i-quants: the points of a lattice that four or eight weights' magnitudes may be. Constants
// of the formats (GGML's "ggml-common.h").
//
// An entry has 16 bits. IQ2 and IQ1: two bits for each of eight elements, element 0 in the lowest; IQ2's 0, 1
// and 2 are the magnitudes 8, 25 and 43, IQ1's the values -1, 0 and 1. IQ3: a nibble for each of four, 0
// .. 7.
#pragma once

#include "kernels/blocks_base.h"

namespace cria {

/// Where each grid begins in the table.
static constexpr int kIq2XxsGrid = 0, kIq2XsGrid = 256, kIq2SGrid = 768, kIq3XxsGrid = 1792, kIq3SGrid = 2048,
                     kIq1Grid = 2560, kIqGridEntries = 4608;

alignas(64) static constexpr uint16_t kIqGrids[kIqGridEntries] = {
#include "kernels/iq_grids.inc"
};
#ifdef __CUDACC__
// Device code cannot index a constant array of the host.
[[maybe_unused]] static __device__ const uint16_t kIqGridsOnDevice[kIqGridEntries] = {
#include "kernels/iq_grids.inc"
};
#endif

CRIA_BLOCK_FUNCTION uint32_t iq_grid_entry(int at) {
#ifdef __CUDA_ARCH__
  return kIqGridsOnDevice[at];
#else
  return kIqGrids[at];
#endif
}

}  // namespace cria
