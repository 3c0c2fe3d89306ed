// Rotary position embedding (Su et al. 2021) and the append of K and V to their page. Compiled per level.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

static void rope(float* x, const RopeRow* args) {
  const int32_t half = args->rope_dim / 2;
  const int32_t step = args->half_layout ? half : 1, stride = args->half_layout ? 1 : 2;
  for (int32_t h = 0; h < args->n_heads; h++) {
    float* head = x + static_cast<int64_t>(h) * args->head_dim;
    for (int32_t i = 0; i < half; i++) {
      float* a = head + i * stride;
      float* b = a + step;
      const float c = args->cos[i], s = args->sin[i], va = *a, vb = *b;
      *a = va * c - vb * s;
      *b = va * s + vb * c;
    }
  }
}

// K a token a lane, V a token a row, as attention.h reads them; V's padding stays zero.
static void append_kv(const float* k, const float* v, int32_t head_dim, uint8_t* block, int32_t slot,
                      bool kv_f32) {
  const int32_t padded = padded_head_dim(head_dim);
  const int64_t v_at = static_cast<int64_t>(kCpuPageTokens) * head_dim + static_cast<int64_t>(slot) * padded;
  if (kv_f32) {
    float* page = reinterpret_cast<float*>(block);
    for (int32_t d = 0; d < head_dim; d++) page[d * kCpuPageTokens + slot] = k[d];
    for (int32_t d = 0; d < padded; d++) page[v_at + d] = d < head_dim ? v[d] : 0.0f;
  } else {
    uint16_t* page = reinterpret_cast<uint16_t*>(block);
    for (int32_t d = 0; d < head_dim; d += 16) {
      const int32_t left = head_dim - d < 16 ? head_dim - d : 16;
      uint16_t half[16];
      store_f16(half, load(k + d, left), 16);
      for (int32_t i = 0; i < left; i++) page[(d + i) * kCpuPageTokens + slot] = half[i];
      store_f16(page + v_at + d, load(v + d, left), 16);
    }
  }
}

}  // namespace cria::CRIA_ISA
