// The host's spelling of what blocks.h and quantize_blocks.h leave to a machine.
#pragma once

#include <cstdint>

#include "core/float_bits.h"

namespace cria {

struct HostMachine {
  static std::uint16_t to_f16(float x) { return f32_to_f16(x); }
  static float from_f16(std::uint16_t bits) { return f16_to_f32(bits); }
};

}  // namespace cria
