// One function for each instruction that CUDA C++ does not expose. The emulator has a software twin of each;
// test/native/cuda/ptx_test.cc checks both against plain references.
//
// On architectures without an instruction its function falls back on others, unless noted. Names follow the
// PTX ISA manual (versions 8 and 9), which defines what each does.
#pragma once

#include "kernels/cuda/ptx_convert.cuh"
#include "kernels/cuda/ptx_copy.cuh"
#include "kernels/cuda/ptx_matrix.cuh"
#include "kernels/cuda/ptx_memory.cuh"
#include "kernels/cuda/ptx_sync.cuh"
