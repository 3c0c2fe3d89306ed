// The kernels behind matmul(), for its dispatch alone.
#pragma once

#include "kernels/cuda/matmul.h"

namespace cria::cuda {

constexpr std::int32_t kVectorTokens = 8;  // at most: the columns of one mma

/// 1 to kVectorTokens tokens, 16-bit floats and quantized weights.
void matmul_vector(const MatmulArgs& args, Stream stream);

/// Any number of tokens.
void matmul_f32(const MatmulArgs& args, Stream stream);
void matmul_tiles_floats(const MatmulDevice& device, const MatmulArgs& args, Stream stream);
void matmul_tiles_blocks32(const MatmulDevice& device, const MatmulArgs& args, Stream stream);
void matmul_tiles_blocks256(const MatmulDevice& device, const MatmulArgs& args, Stream stream);

/// More dynamic shared memory than is given unasked.
void prepare_tiles_floats(const MatmulDevice& device);
void prepare_tiles_blocks32(const MatmulDevice& device);
void prepare_tiles_blocks256(const MatmulDevice& device);

}  // namespace cria::cuda
