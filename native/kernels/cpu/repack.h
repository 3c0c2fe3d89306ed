// How the CPU keeps matrices of quantized weights: rows repacked by 32.
//
// A panel is 32 rows. Its blocks follow each other in the order of the columns; each is [dword][row]: a dword
// of all 32 rows, then the next, in the order in which products read them (panel_dword). Formats of 4n + 2
// bytes have a 16-bit scale first or last in the file; here [row] of it comes first. Weights of 3, 5 and 6
// bits, whose low and high bits a file keeps apart, are joined (bit_layout.h). Such a panel is a permutation
// of the file's bits and no larger. Formats with grids, and a few more, are first rewritten into codes that
// vector instructions can read (panel_blocks.h), which take more room. A vector load brings the same bytes of
// sixteen rows, products need no transpose, and a thread reads its rows as one stream. Rows beyond the last
// are zeros.
//
// Float weights stay as in the file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/cpu/kernel_table.h"

namespace cria {

/// Whether weights of this type are repacked: the quantized ones.
bool is_repacked(DType dtype);

/// Bytes of a matrix as the CPU keeps it. `cols` is a multiple of the type's block.
std::size_t matrix_bytes(DType dtype, std::int64_t rows, std::int64_t cols);

/// Rows [first, first + n_rows) of a matrix of `cols` columns, from `from`, in the file's layout, to their
/// place in `matrix`. `first` is a multiple of 32, and so is n_rows unless these are the last. Types that are
/// not repacked are copied.
void repack_rows(const CpuKernels& kernels, DType dtype, std::int64_t cols, std::int64_t first,
                 std::int64_t n_rows, const void* from, void* matrix);

/// Row `row` of a repacked matrix as `cols` floats, with the bits of dequantize_row().
void dequantize_panel_row(DType dtype, std::int64_t cols, std::int64_t row, const void* matrix, float* to);

}  // namespace cria
