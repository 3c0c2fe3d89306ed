// Every instruction that CUDA C++ has no name for, behind one function each. The emulator has a software twin
// of each; test/native/cuda/ptx_test.cc holds both against plain references.
//
// Where an architecture lacks an instruction, the function does the same by others, unless it is said. Names
// follow the PTX ISA manual (version 8 and 9), which defines what each does.
#pragma once

#include "kernels/cuda/ptx_convert.cuh"
#include "kernels/cuda/ptx_copy.cuh"
#include "kernels/cuda/ptx_matrix.cuh"
#include "kernels/cuda/ptx_memory.cuh"
#include "kernels/cuda/ptx_sync.cuh"
