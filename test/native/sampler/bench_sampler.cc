// Time of one choice from a vocabulary of Llama 3's size, for the usual settings.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "sampler/sampler.h"

using namespace cria;

namespace {

constexpr std::uint32_t kVocab = 128256;

void measure(const char* name, const SamplingParams& params, const std::vector<std::vector<float>>& logits,
             const std::vector<std::uint32_t>& history) {
  using Clock = std::chrono::steady_clock;
  Sampler sampler(params, kVocab);
  std::vector<double> milliseconds;
  std::uint32_t sum = 0;
  for (std::uint64_t i = 0; i < 200; i++) {
    const auto start = Clock::now();
    sum += sampler.sample(logits[i % logits.size()], history, i).id;
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf("%-44s %8.4f ms least %8.4f ms median   (ids sum to %u)\n", name, milliseconds[0],
              milliseconds[100], sum);
}

}  // namespace

int main() {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0, 2.5f);
  // Four rows, 2 MB: as after a matrix product, not all in the nearest cache.
  std::vector<std::vector<float>> peaked(4, std::vector<float>(kVocab)),
      equal(1, std::vector<float>(kVocab, 1.0f));
  for (auto& row : peaked) {
    for (float& v : row) v = normal(rng);
    for (int i = 0; i < 50; i++) row[rng() % kVocab] = 12 + static_cast<float>(rng() % 1000) * 0.006f;
  }
  auto rising = peaked;
  for (auto& row : rising) std::sort(row.begin(), row.end());
  std::vector<std::uint32_t> history(4096);
  for (auto& id : history) id = static_cast<std::uint32_t>(rng() % kVocab);

  SamplingParams greedy;
  greedy.temperature = 0;
  measure("greedy", greedy, peaked, history);
  greedy.logprobs = 5;
  measure("greedy, 5 logprobs", greedy, peaked, history);

  SamplingParams usual;
  usual.temperature = 0.8;
  usual.top_k = 40;
  measure("top-k 40", usual, peaked, history);
  measure("top-k 40, ascending logits", usual, rising, history);
  measure("top-k 40, all logits equal", usual, equal, history);
  usual.top_p = 0.95;
  usual.min_p = 0.05;
  measure("top-k 40, top-p 0.95, min-p 0.05", usual, peaked, history);
  usual.repetition_penalty = 1.1;
  usual.logit_bias = {{5, 1.0f}};
  measure("the same with penalties over 4096 and a bias", usual, peaked, history);
  usual.logprobs = 5;
  measure("the same with 5 logprobs", usual, peaked, history);
  usual = {};
  usual.top_k = 10000;
  measure("top-k 10000", usual, peaked, history);

  SamplingParams open;
  measure("whole distribution", open, peaked, history);
  open.top_p = 0.95;
  measure("top-p 0.95", open, peaked, history);
  measure("top-p 0.95, all logits equal", open, equal, history);
  open.top_p = 1;
  open.min_p = 0.05;
  measure("min-p 0.05", open, peaked, history);
  open.min_p = 0;
  open.typical_p = 0.95;
  measure("typical 0.95", open, peaked, history);
  measure("typical 0.95, all logits equal", open, equal, history);
}
