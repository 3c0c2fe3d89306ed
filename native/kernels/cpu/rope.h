// Rotary position embedding (Su et al. 2021) and the append of K and V to their page. Compiled per level.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

// (a, b) -> (a cos - b sin, a sin + b cos), no product fused. kStream: out is not x, is aligned, and head_dim
// and, for the half layout, rope_dim / 2 are multiples of 16.
template <bool kStream>
static void rope_heads(const float* x, float* out, const RopeRow* args) {
  const int32_t half = args->rope_dim / 2;
  for (int32_t h = 0; h < args->n_heads; h++, x += args->head_dim, out += args->head_dim) {
    if (kStream)
      for (int32_t i = 0; i < args->head_dim; i += 16) prefetch(x + i + kReadAhead);
    int32_t i = 0;
    if (args->half_layout) {
      for (; i + 16 <= half; i += 16) {
        const F32x16 a = load(x + i), b = load(x + half + i), c = load(args->cos + i),
                     s = load(args->sin + i);
        put<kStream>(out + i, a * c - b * s);
        put<kStream>(out + half + i, a * s + b * c);
      }
      for (; i < half; i++) {
        const float c = args->cos[i], s = args->sin[i], a = x[i], b = x[half + i];
        out[i] = a * c - b * s;
        out[half + i] = a * s + b * c;
      }
    } else {
      for (; i + 8 <= half; i += 8) {
        const F32x16 v = load(x + 2 * i);
        const F32x16 crossed = negate_even(swap_pairs(v) * load_twice(args->sin + i));
        put<kStream>(out + 2 * i, v * load_twice(args->cos + i) + crossed);
      }
      for (; i < half; i++) {
        const float c = args->cos[i], s = args->sin[i], a = x[2 * i], b = x[2 * i + 1];
        out[2 * i] = a * c - b * s;
        out[2 * i + 1] = a * s + b * c;
      }
    }
    if (out != x)
      for (int32_t d = args->rope_dim; d < args->head_dim; d++) out[d] = x[d];
  }
  if (kStream) stream_fence();
}

static void rope(float* x, const RopeRow* args) { rope_heads<false>(x, x, args); }
static void rope_to(const float* x, float* out, const RopeRow* args) { rope_heads<false>(x, out, args); }
static void rope_stream(const float* x, float* out, const RopeRow* args) { rope_heads<true>(x, out, args); }

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
