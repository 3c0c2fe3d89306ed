#include "kernels/cpu/repack.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/bit_layout.h"

namespace cria {
namespace {

/// A dword of one row, for bit_layout.h.
struct Lane {
  std::uint32_t v;
};
Lane operator&(Lane a, std::uint32_t mask) { return {a.v & mask}; }
Lane operator|(Lane a, Lane b) { return {a.v | b.v}; }
Lane& operator|=(Lane& a, Lane b) { return a = a | b; }
Lane operator<<(Lane a, int n) { return {a.v << n}; }
Lane operator>>(Lane a, int n) { return {a.v >> n}; }

void unpack_bits(DType dtype, const Lane* panel, Lane* file) {
  switch (dtype) {
    case DType::q3_k: return portable::unpack_bits<DType::q3_k>(panel, file);
    case DType::q5_k: return portable::unpack_bits<DType::q5_k>(panel, file);
    case DType::q6_k: return portable::unpack_bits<DType::q6_k>(panel, file);
    default: return portable::unpack_bits<DType::q5_0>(panel, file);
  }
}

constexpr int kMaxDwords = 64;  // of a block

std::size_t panel_bytes(DType dtype, std::int64_t cols) {
  return kPanelRows * row_bytes(dtype, static_cast<std::size_t>(cols));
}

}  // namespace

bool is_repacked(DType dtype) { return block_shape(dtype).dwords > 0; }

std::size_t matrix_bytes(DType dtype, std::int64_t rows, std::int64_t cols) {
  if (!is_repacked(dtype))
    return row_bytes(dtype, static_cast<std::size_t>(cols)) * static_cast<std::size_t>(rows);
  return panel_bytes(dtype, cols) * static_cast<std::size_t>((rows + kPanelRows - 1) / kPanelRows);
}

void repack_rows(const CpuKernels& kernels, DType dtype, std::int64_t cols, std::int64_t first,
                 std::int64_t n_rows, const void* from, void* matrix) {
  const std::size_t row = row_bytes(dtype, static_cast<std::size_t>(cols));
  auto* to = static_cast<std::uint8_t*>(matrix) + row * static_cast<std::size_t>(first);
  if (!is_repacked(dtype)) {
    std::memcpy(to, from, row * static_cast<std::size_t>(n_rows));
    return;
  }
  const auto* source = static_cast<const std::uint8_t*>(from);
  const std::int64_t blocks = cols / block_shape(dtype).cols;
  for (std::int64_t r = 0; r < n_rows; r += kPanelRows, to += panel_bytes(dtype, cols)) {
    RowPointers rows;
    rows.count = static_cast<int>(std::min<std::int64_t>(kPanelRows, n_rows - r));
    for (int i = 0; i < rows.count; i++) rows.row[i] = source + row * static_cast<std::size_t>(r + i);
    kernels.repack(dtype, &rows, 0, blocks, to);
  }
}

void unpack_row(DType dtype, std::int64_t cols, std::int64_t row, const void* matrix, void* to) {
  const BlockShape shape = block_shape(dtype);
  const std::int64_t at = row % kPanelRows;
  const auto* from = static_cast<const std::uint8_t*>(matrix) +
                     panel_bytes(dtype, cols) * static_cast<std::size_t>(row / kPanelRows);
  auto* out = static_cast<std::uint8_t*>(to);
  const int first_weight =
      portable::repacked_bits(dtype) > 0 ? portable::first_weight_dword(dtype) : shape.dwords;
  for (std::int64_t b = 0; b < cols / shape.cols; b++, out += shape.bytes()) {
    if (shape.leading_word || shape.trailing_word) {
      std::memcpy(out + (shape.leading_word ? 0 : 4 * shape.dwords), from + 2 * at, 2);
      from += 2 * kPanelRows;
    }
    Lane dwords[kMaxDwords], weights[kMaxDwords];
    for (int i = 0; i < shape.dwords; i++) std::memcpy(dwords + i, from + 4 * (kPanelRows * i + at), 4);
    from += 4 * kPanelRows * shape.dwords;
    if (first_weight < shape.dwords) {
      unpack_bits(dtype, dwords + first_weight, weights);
      std::copy(weights, weights + (shape.dwords - first_weight), dwords + first_weight);
    }
    std::uint8_t* to_dwords = out + (shape.leading_word ? 2 : 0);
    for (int i = 0; i < shape.dwords; i++) std::memcpy(to_dwords + 4 * i, dwords + dword_place(dtype, i), 4);
  }
}

}  // namespace cria
