// Panels of codes -> panels of bytes (BlockK8, BlockS8), a run at a time into scratch. So the tiles for many
// tokens (matmul_panel_tiles.h, matmul_scaled.h) are compiled once for many formats, and unpack no codes.
// Compiled per level.
#pragma once

#include "kernels/cpu/matmul_formats.h"

namespace cria::CRIA_ISA {

/// Dword `at` of sixteen rows of a widened block.
CRIA_INLINE void store_dword(uint8_t* block, int half, int64_t at, I32x16 v) {
  store(block + 128 * at + 64 * half, v);
}
/// What makes a format's bytes biased ones.
template <class F>
constexpr uint32_t kMissingBias = repeat_byte(kCodebookBias - F::kOffset);

template <class F>
static void widen_blocks256(const uint8_t* panel, int64_t n_blocks, uint8_t* out) {
  for (int64_t b = 0; b < n_blocks; b++, panel += kPanelBlockBytes<F>, out += kPanelRows * sizeof(BlockK8)) {
    for (int half = 0; half < 2; half++) {
      const Rows16 block{panel, half};
      typename F::Header header;
      header.read(block);
      store_dword(out, half, 0, as_i32(header.d()));
      CRIA_UNROLL(4)
      for (int i = 0; i < 4; i++) {
        const auto scale = [&](int g) { return header.scale(g * F::kGroups / 16); };
        store_dword(
            out, half, 1 + i,
            scale(4 * i) | (scale(4 * i + 1) << 8) | (scale(4 * i + 2) << 16) | (scale(4 * i + 3) << 24));
      }
      for (int64_t outer = 0; outer < 8 / F::kInner; outer++) {
        CRIA_UNROLL(4)
        for (int i = 0; i < F::kInner; i++) {
          CRIA_UNROLL(8)
          for (int k = 0; k < 8; k++)
            store_dword(out, half, 5 + 8 * (F::kInner * outer + i) + k,
                        F::bytes(block, outer, i, k) + set1(static_cast<int32_t>(kMissingBias<F>)));
        }
      }
    }
  }
}

template <class F>
static void widen_blocks32(const uint8_t* panel, int64_t n_blocks, uint8_t* out) {
  for (int64_t b = 0; b < n_blocks; b++, panel += kPanelBlockBytes<F>) {
    CRIA_UNROLL(4)
    for (int part = 0; part < F::kParts; part++, out += kPanelRows * sizeof(BlockS8)) {
      for (int half = 0; half < 2; half++) {
        const Rows16 block{panel, half};
        for (int i = 0; i < 2; i++) store_dword(out, half, i, as_i32(F::d(block, part, i)));
        CRIA_UNROLL(8)
        for (int k = 0; k < 8; k++)
          store_dword(out, half, 2 + k,
                      F::bytes(block, part, k) + set1(static_cast<int32_t>(kMissingBias<F>)));
      }
    }
  }
}

}  // namespace cria::CRIA_ISA
