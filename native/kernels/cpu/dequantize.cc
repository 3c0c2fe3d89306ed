#include "kernels/cpu/dequantize.h"

#include <string>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"
#include "kernels/host_machine.h"

namespace cria {
namespace {

template <class Block>
void dequantize_blocks(const Block* __restrict blocks, float* __restrict dst, std::int64_t n) {
  static_assert(sizeof(Block) == traits_of(Block::kType).block_bytes &&
                Block::kElements == traits_of(Block::kType).block_size);
  using Values = BlockValues<HostMachine, Block>;
  constexpr int kGroups = Block::kElements / Block::kGroup, kSixteens = Block::kGroup / 16;
  for (std::int64_t i = 0; i < n / Block::kElements; i++) {
    const auto block = Values::of_block(blocks[i]);
    for (int g = 0; g < kGroups; g++) {
      const auto group = Values::of_group(block, blocks[i], g);
      for (int s = 0; s < kSixteens; s++, dst += 16)
#pragma GCC unroll 4  // or gcc unrolls it all and does not vectorize
        for (int j = 0; j < 16; j++) dst[j] = Values::value(group, blocks[i].quant(kSixteens * g + s, j));
    }
  }
}

float value_of(ElementF32 x) { return x.value; }
float value_of(ElementF16 x) { return f16_to_f32(x.bits); }
float value_of(ElementBF16 x) { return bf16_to_f32(x.bits); }

}  // namespace

void dequantize_row(DType dtype, const void* src, float* dst, std::int64_t n) {
  const std::int64_t block_size = traits_of(dtype).block_size;
  if (n < 0 || n % block_size != 0)
    throw Error(ErrorCode::invalid_argument,
                "dequantize_row: a row of " + std::string(name_of(dtype)) + " has a multiple of " +
                    std::to_string(block_size) + " elements, not " + std::to_string(n),
                {{"expected", block_size}, {"found", n}});
  visit_dtype(dtype, [&](auto format) {
    using Block = typename decltype(format)::Block;
    if constexpr (Block::kElements > 1)
      dequantize_blocks(static_cast<const Block*>(src), dst, n);
    else
      for (std::int64_t i = 0; i < n; i++) dst[i] = value_of(static_cast<const Block*>(src)[i]);
  });
}

}  // namespace cria
