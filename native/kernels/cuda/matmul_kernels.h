// The kernels behind matmul(), private to it.
#pragma once

#include "kernels/cuda/matmul.h"

namespace cria::cuda {

/// Tokens of matmul_vector() at most: the columns of one mma.
constexpr std::int32_t kVectorTokens = 8;

/// 1 to kVectorTokens tokens, with 16-bit float or quantized weights.
void matmul_vector(const MatmulArgs& args, Stream stream);

/// Any number of tokens.
void matmul_f32(const MatmulArgs& args, Stream stream);
void matmul_tiles_floats(const MatmulDevice& device, const MatmulArgs& args, Stream stream);
void matmul_tiles_blocks32(const MatmulDevice& device, const MatmulArgs& args, Stream stream);
void matmul_tiles_blocks256(const MatmulDevice& device, const MatmulArgs& args, Stream stream);

/// Reserve dynamic shared memory beyond the default limit.
void prepare_tiles_floats(const MatmulDevice& device);
void prepare_tiles_blocks32(const MatmulDevice& device);
void prepare_tiles_blocks256(const MatmulDevice& device);

}  // namespace cria::cuda
