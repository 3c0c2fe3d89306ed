// The kernels behind matmul(), private to it.
#pragma once

#include "kernels/cuda/matmul.h"

namespace cria::cuda {

/// Tokens of matmul_vector() at most: the columns of one mma.
constexpr std::int32_t kVectorTokens = 8;

// Without groups (RowGroups::groups is null) the plain product. Rows of a group: of matmul_vector() and
// matmul_f32() small ones, of the others large ones.

/// 1 to kVectorTokens tokens, with 16-bit float or quantized weights.
void matmul_vector(const MatmulArgs& args, const RowGroups& groups, Stream stream);

/// Any number of tokens.
void matmul_f32(const MatmulArgs& args, const RowGroups& groups, Stream stream);
void matmul_tiles_floats(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                         Stream stream);
void matmul_tiles_blocks32(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                           Stream stream);
void matmul_tiles_blocks256(const MatmulDevice& device, const MatmulArgs& args, const RowGroups& groups,
                            Stream stream);

/// Reserve dynamic shared memory beyond the default limit.
void prepare_tiles_floats(const MatmulDevice& device);
void prepare_tiles_blocks32(const MatmulDevice& device);
void prepare_tiles_blocks256(const MatmulDevice& device);

}  // namespace cria::cuda
