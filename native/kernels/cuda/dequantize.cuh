// One element of a row of weights as it lies in a GGUF file, with the bits of the CPU's dequantize_row():
// both are kernels/blocks.h. Slow: for rows of the embedding, and for checking.
#pragma once

#include "kernels/blocks.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ptx_convert.cuh"

namespace cria::cuda {

/// The device's spelling of what blocks.h and quantize_blocks.h leave to a machine.
struct DeviceMachine {
  static CRIA_DEVICE uint16_t to_f16(float x) { return float_to_f16(x); }
  static CRIA_DEVICE float from_f16(uint16_t bits) { return f16_to_float(bits); }
};

CRIA_DEVICE float value_of(ElementF32 x) { return x.value; }
CRIA_DEVICE float value_of(ElementF16 x) { return f16_to_float(x.bits); }
CRIA_DEVICE float value_of(ElementBF16 x) { return bf16_to_float(x.bits); }

/// Element i of a row of `dtype`, which is aligned as its blocks are: to 2 bytes, F32 and Q8_K to 4.
CRIA_DEVICE float dequantized(DType dtype, const uint8_t* row, int64_t i) {
  return visit_dtype(dtype, [row, i](auto format) -> float {
    using Block = typename decltype(format)::Block;
    const auto* blocks = reinterpret_cast<const Block*>(row);
    if constexpr (Block::kElements == 1)
      return value_of(blocks[i]);
    else
      return BlockValues<DeviceMachine, Block>::element(blocks[i / Block::kElements],
                                                        static_cast<int>(i % Block::kElements));
  });
}

}  // namespace cria::cuda
