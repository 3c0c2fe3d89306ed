// Index arithmetic of a KV head's block in a page; kv_cache.h describes the layout.
#pragma once

#include "core/host_device.h"

namespace cria::cuda {

/// Index into the block's f16 K; `tiles` is D / 16. Four dimensions from a multiple of four on are
/// contiguous.
CRIA_HOST_DEVICE constexpr int k_f16_at(int token, int d, int tiles) {
  return ((token >> 4) * tiles + (d >> 4)) * 256 + ((token & 7) * 4 + (d >> 2 & 3)) * 8 +
         (token >> 3 & 1) * 4 + (d & 3);
}
/// Index into the block's f16 V.
CRIA_HOST_DEVICE constexpr int v_f16_at(int token, int d, int tiles) {
  return ((token >> 4) * tiles + (d >> 4)) * 256 + ((d & 7) * 4 + (token >> 1 & 3)) * 8 + (d >> 3 & 1) * 4 +
         (token >> 3 & 1) * 2 + (token & 1);
}
CRIA_HOST_DEVICE constexpr int k_f32_at(int token, int d) { return ((d >> 2) * 64 + token) * 4 + (d & 3); }
CRIA_HOST_DEVICE constexpr int v_f32_at(int token, int d, int padded) { return token * padded + d; }

}  // namespace cria::cuda
