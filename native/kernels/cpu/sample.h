// Greedy sampling and the log of the sum of exponentials, over one row of logits. Compiled per level.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

// Order: e^(logit - max) in sixteen chains by index mod 16, merged by the tree.
static void argmax(const float* logits, int64_t n, uint32_t* id, float* log_sum_exp) {
  constexpr int64_t kChunk = 1024;  // so that the maximum is looked for in few
  const int64_t whole = n / 16 * 16;
  float top = -__builtin_inff();
  int64_t best = 0;
  F32x16 poison = set1(0.0f);  // becomes NaN with the first NaN, which a maximum would hide
  for (int64_t first = 0; first < n; first += kChunk) {
    F32x16 highest = set1(-__builtin_inff());
    const auto add_values = [&](F32x16 v) {
      highest = max(highest, v);
      poison += zero_below(v, -3e38f, v * 0.0f);
    };
    const int64_t end = first + kChunk < whole ? first + kChunk : whole;
    for (int64_t i = first; i < end; i += 16) add_values(load(logits + i));
    if (end == whole && whole < n) {
      float lanes[16];
      for (int j = 0; j < 16; j++) lanes[j] = whole + j < n ? logits[whole + j] : -__builtin_inff();
      add_values(load(lanes));
    }
    const float of_chunk = reduce_max(highest);
    if (of_chunk > top) {
      top = of_chunk;
      best = first;
    }
  }
  while (best < n && logits[best] != top) best++;
  *id = static_cast<uint32_t>(best < n ? best : 0);

  F32x16 total = set1(0.0f);
  for (int64_t i = 0; i < whole; i += 16) total += exp_nonpositive(load(logits + i) - top);
  if (whole < n) {
    const int left = static_cast<int>(n - whole);
    float e[16];
    store(e, exp_nonpositive(load(logits + whole, left) - top));
    total += load(e, left);
  }
  const float sum = reduce_add(total);
  const float bad = reduce_add(poison);
  *log_sum_exp = bad == bad ? top + static_cast<float>(__builtin_log(static_cast<double>(sum))) : bad;
}

}  // namespace cria::CRIA_ISA
