#include "kernels/cpu/experts.h"

#include <algorithm>
#include <array>
#include <functional>

#include "core/float_bits.h"
#include "kernels/cpu/scratch.h"

namespace cria {
namespace {

/// Orders experts by probability, and equal ones by descending index. Probabilities are not negative, so
/// their bits have their order; NaN is the largest.
std::uint64_t rank_key(float probability, std::int64_t expert) {
  return std::uint64_t{float_bits(probability)} << 32 | (0xffffffffu - static_cast<std::uint32_t>(expert));
}
std::int32_t expert_of(std::uint64_t key) {
  return static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(key));
}
float probability_of(std::uint64_t key) { return float_from_bits(static_cast<std::uint32_t>(key >> 32)); }

}  // namespace

void ExpertRouting::route(const CpuKernels& kernels, ThreadPool& pool, float* logits, std::int64_t n_tokens,
                          const ExpertShape& shape) {
  shape_ = shape;
  n_tokens_ = n_tokens;
  const std::int64_t pairs = n_tokens * shape.n_used;
  ensure_size(expert_of_, pairs);
  ensure_size(row_of_, pairs);
  ensure_size(weight_of_, pairs);
  ensure_size(token_of_, pairs);
  pool.parallel_for(n_tokens, pool.grain_for(n_tokens, 8), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      float* const row = logits + t * shape.n_experts;
      kernels.softmax(row, row, shape.n_experts);
      choose(row, t);
    }
  });
  group_rows();
}

void ExpertRouting::choose(const float* probabilities, std::int64_t token) {
  std::array<std::uint64_t, kMaxExperts> keys;
  const std::int32_t n = shape_.n_experts, used = shape_.n_used;
  for (std::int32_t e = 0; e < n; e++) keys[static_cast<std::size_t>(e)] = rank_key(probabilities[e], e);
  std::partial_sort(keys.begin(), keys.begin() + used, keys.begin() + n, std::greater<>());
  float sum = probability_of(keys[0]);
  for (std::int32_t i = 1; i < used; i++) sum += probability_of(keys[static_cast<std::size_t>(i)]);
  for (std::int32_t i = 0; i < used; i++) {
    const auto at = static_cast<std::size_t>(token * used + i);
    const std::uint64_t key = keys[static_cast<std::size_t>(i)];
    expert_of_[at] = expert_of(key);
    weight_of_[at] = probability_of(key) / sum;
  }
}

/// A counting sort of the pairs by expert.
void ExpertRouting::group_rows() {
  const auto pairs = static_cast<std::size_t>(n_tokens_ * shape_.n_used);
  row_begin_.assign(static_cast<std::size_t>(shape_.n_experts) + 1, 0);
  for (std::size_t i = 0; i < pairs; i++) row_begin_[static_cast<std::size_t>(expert_of_[i]) + 1]++;
  active_.clear();
  for (std::int32_t e = 0; e < shape_.n_experts; e++) {
    std::int32_t& end = row_begin_[static_cast<std::size_t>(e) + 1];
    if (end > 0) active_.push_back(e);
    end += row_begin_[static_cast<std::size_t>(e)];
  }
  std::array<std::int32_t, kMaxExperts> next;
  std::copy_n(row_begin_.begin(), shape_.n_experts, next.begin());
  for (std::size_t i = 0; i < pairs; i++) {
    const std::int32_t row = next[static_cast<std::size_t>(expert_of_[i])]++;
    row_of_[i] = row;
    token_of_[static_cast<std::size_t>(row)] =
        static_cast<std::int32_t>(i / static_cast<std::size_t>(shape_.n_used));
  }
}

void ExpertRouting::add_outputs(ThreadPool& pool, const float* outputs, std::int64_t hidden, float* x) const {
  constexpr std::int64_t kColumns = 64;  // whose sums stay in registers or L1
  const std::int64_t used = shape_.n_used;
  pool.parallel_for(n_tokens_, pool.grain_for(n_tokens_, 4), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; t++) {
      const std::int32_t* const row = row_of_.data() + t * used;
      const float* const weight = weight_of_.data() + t * used;
      for (std::int64_t first = 0; first < hidden; first += kColumns) {
        const std::int64_t n = std::min(kColumns, hidden - first);
        float sum[kColumns];
        const float* from = outputs + row[0] * hidden + first;
        for (std::int64_t c = 0; c < n; c++) sum[c] = from[c] * weight[0];
        for (std::int64_t i = 1; i < used; i++) {
          from = outputs + row[i] * hidden + first;
          for (std::int64_t c = 0; c < n; c++) sum[c] += from[c] * weight[i];
        }
        float* const to = x + t * hidden + first;
        for (std::int64_t c = 0; c < n; c++) to[c] += sum[c];
      }
    }
  });
}

}  // namespace cria
