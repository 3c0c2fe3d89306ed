#include "kernels/cpu/repack.h"

#include <algorithm>
#include <cstring>
#include <iterator>

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

namespace {

/// A row of a panel, whose first block begins at `panel`.
template <class Block>
void unpack_panel_row(const std::uint8_t* panel, std::int64_t blocks, std::int64_t row, std::uint8_t* out) {
  constexpr BlockShape kShape = block_shape<Block>();
  for (std::int64_t b = 0; b < blocks; b++, out += sizeof(Block)) {
    if (kShape.leading_word || kShape.trailing_word) {
      std::memcpy(out + (kShape.leading_word ? 0 : 4 * kShape.dwords), panel + 2 * row, 2);
      panel += 2 * kPanelRows;
    }
    Lane dwords[kShape.dwords];
    for (int i = 0; i < kShape.dwords; i++) std::memcpy(dwords + i, panel + 4 * (kPanelRows * i + row), 4);
    panel += 4 * kPanelRows * kShape.dwords;
    if constexpr (Block::kPanelBits > 0) {
      constexpr int kFirst = portable::kFirstWeightDword<Block>;
      Lane weights[kShape.dwords - kFirst];
      portable::unpack_bits<Block>(dwords + kFirst, weights);
      std::copy(std::begin(weights), std::end(weights), dwords + kFirst);
    }
    std::uint8_t* to = out + (kShape.leading_word ? 2 : 0);
    for (int i = 0; i < kShape.dwords; i++) std::memcpy(to + 4 * i, dwords + panel_dword<Block>(i), 4);
  }
}

}  // namespace

void unpack_row(DType dtype, std::int64_t cols, std::int64_t row, const void* matrix, void* to) {
  const auto* panel = static_cast<const std::uint8_t*>(matrix) +
                      panel_bytes(dtype, cols) * static_cast<std::size_t>(row / kPanelRows);
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (kIsRepacked<Block>)
      unpack_panel_row<Block>(panel, cols / Block::kElements, row % kPanelRows,
                              static_cast<std::uint8_t*>(to));
  });
}

}  // namespace cria
