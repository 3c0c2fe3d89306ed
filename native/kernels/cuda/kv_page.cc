#include "kernels/cuda/kv_page.h"

#include <cstring>

#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/kv_layout.h"

namespace cria::cuda {

void clear_page_from(const AttentionShape& shape, DType dtype, std::int32_t n_tokens, std::byte* page) {
  const bool f32 = dtype == DType::f32;
  const std::size_t element = f32 ? 4 : 2;
  const int padded = padded_head_dim(shape.head_dim), tiles = padded / 16;
  for (std::int32_t head = 0; head < shape.n_kv_heads; head++) {
    std::byte* const k = page + static_cast<std::size_t>(head) * kv_block_bytes(shape.head_dim, dtype);
    std::byte* const v = k + static_cast<std::size_t>(kKvPageTokens * padded) * element;
    for (int token = n_tokens; token < kKvPageTokens; token++)
      for (int d = 0; d < padded; d++) {
        const int in_k = f32 ? k_f32_at(token, d) : k_f16_at(token, d, tiles);
        const int in_v = f32 ? v_f32_at(token, d, padded) : v_f16_at(token, d, tiles);
        std::memset(k + static_cast<std::size_t>(in_k) * element, 0, element);
        std::memset(v + static_cast<std::size_t>(in_v) * element, 0, element);
      }
  }
}

}  // namespace cria::cuda
