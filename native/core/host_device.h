// Marks functions that the host and CUDA devices share: the same operations, in the same order, with the same
// bits.
#pragma once

#ifdef __CUDACC__
#define CRIA_HOST_DEVICE __host__ __device__
#else
#define CRIA_HOST_DEVICE
#endif
