// Greedy sampling and the log of the sum of exponentials, over one row of logits. Compiled per level.
#pragma once

#include "kernels/cpu/simd.h"

namespace cria::CRIA_ISA {

// Order: e^(logit - max) in sixteen chains by index mod 16, merged by the tree.
static void sample(const float* logits, int64_t n, uint32_t* argmax, float* log_sum_exp) {
  F32x16 highest = set1(-__builtin_inff());
  F32x16 poison = set1(0.0f);  // becomes NaN with the first NaN, which a maximum would hide
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    float lanes[16];
    for (int j = left; j < 16; j++) lanes[j] = -__builtin_inff();
    store(lanes, load(logits + i, left), left);
    const F32x16 v = left == 16 ? load(logits + i) : load(lanes);
    highest = max(highest, v);
    poison = add(poison, zero_below(v, -3e38f, mul(v, set1(0.0f))));
  }
  const float top = reduce_max(highest);
  int64_t best = 0;
  while (best < n && logits[best] != top) best++;
  *argmax = static_cast<uint32_t>(best < n ? best : 0);

  F32x16 total = set1(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int left = static_cast<int>(n - i < 16 ? n - i : 16);
    float e[16];
    store(e, exp(sub(load(logits + i, left), set1(top))));
    total = add(total, load(e, left));
  }
  const float sum = reduce_add(total);
  const float bad = reduce_add(poison);
  *log_sum_exp = bad == bad ? top + static_cast<float>(__builtin_log(static_cast<double>(sum))) : bad;
}

}  // namespace cria::CRIA_ISA
