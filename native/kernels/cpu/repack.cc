#include "kernels/cpu/repack.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "kernels/cpu/bit_layout.h"
#include "kernels/host_machine.h"

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
  const BlockShape shape = block_shape(dtype);
  return kPanelRows * static_cast<std::size_t>(cols / shape.cols * shape.bytes());
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
  auto* to = static_cast<std::uint8_t*>(matrix);
  if (!is_repacked(dtype)) {
    std::memcpy(to + row * static_cast<std::size_t>(first), from, row * static_cast<std::size_t>(n_rows));
    return;
  }
  to += panel_bytes(dtype, cols) * static_cast<std::size_t>(first / kPanelRows);
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

/// Row `row` of a panel's block at `panel`.
template <class PanelBlock>
PanelBlock panel_block(const std::uint8_t* panel, std::int64_t row) {
  constexpr BlockShape kShape = block_shape<PanelBlock>();
  PanelBlock block;
  auto* out = reinterpret_cast<std::uint8_t*>(&block);
  if (kShape.leading_word || kShape.trailing_word) {
    std::memcpy(out + (kShape.leading_word ? 0 : 4 * kShape.dwords), panel + 2 * row, 2);
    panel += 2 * kPanelRows;
  }
  Lane dwords[kShape.dwords];
  for (int i = 0; i < kShape.dwords; i++) std::memcpy(dwords + i, panel + 4 * (kPanelRows * i + row), 4);
  if constexpr (PanelBlock::kPanelBits > 0) {
    constexpr int kFirst = portable::kFirstWeightDword<PanelBlock>;
    Lane weights[kShape.dwords - kFirst];
    portable::unpack_bits<PanelBlock>(dwords + kFirst, weights);
    std::copy(std::begin(weights), std::end(weights), dwords + kFirst);
  }
  std::uint8_t* to = out + (kShape.leading_word ? 2 : 0);
  for (int i = 0; i < kShape.dwords; i++) std::memcpy(to + 4 * i, dwords + panel_dword<PanelBlock>(i), 4);
  return block;
}

}  // namespace

void dequantize_panel_row(DType dtype, std::int64_t cols, std::int64_t row, const void* matrix, float* to) {
  const auto* panel = static_cast<const std::uint8_t*>(matrix) +
                      panel_bytes(dtype, cols) * static_cast<std::size_t>(row / kPanelRows);
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (kIsRepacked<Block>) {
      using P = PanelBlock<Block>;
      using Values = BlockValues<HostMachine, P>;
      for (std::int64_t b = 0; b < cols / P::kElements; b++, panel += kPanelRows * sizeof(P)) {
        const P block = panel_block<P>(panel, row % kPanelRows);
        const auto of_block = Values::of_block(block);
        for (int e = 0; e < P::kElements; e++) {
          const auto group = Values::of_group(of_block, block, e / P::kGroup);
          *to++ = Values::value(group, block.quant(e / 16, e % 16));
        }
      }
    }
  });
}

}  // namespace cria
