// float32 -> blocks of weights with the least error that a search finds, for conversion. Activations, tests
// and benchmarks have plain quantizers of their own (quantize.h).
#pragma once

#include <stdint.h>

#include "kernels/cpu/quantize_grids.h"
#include "kernels/cpu/quantize_linear.h"
#include "kernels/cpu/quantize_low_bits.h"
#include "kernels/cpu/scaled_block.h"

namespace cria::CRIA_ISA {

template <class Block>
concept SearchedBlock = requires(const ScaledBlock& s, Block& b) { quantize_block(s, b); };

template <class Block>
static void quantize_blocks(const float* x, const float* importance, Block* out, int64_t n) {
  ScaledBlock scaled;
  for (int64_t i = 0; i < n / Block::kElements; i++) {
    const int64_t at = i * Block::kElements;
    out[i] = Block{};
    if (load_block(x + at, importance == nullptr ? nullptr : importance + at, Block::kElements, scaled))
      quantize_block(scaled, out[i]);
  }
}

/// See kernel_table.h.
static bool quantize_weights(DType dtype, const float* x, const float* importance, void* out, int64_t n) {
  return visit_dtype(dtype, [=](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (SearchedBlock<Block>) quantize_blocks(x, importance, static_cast<Block*>(out), n);
    return SearchedBlock<Block>;
  });
}

}  // namespace cria::CRIA_ISA
