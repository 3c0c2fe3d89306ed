#include "sampler_reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "core/sampling_math.h"

namespace cria {

double uniform(std::uint64_t seed, std::uint64_t position) {
  return static_cast<double>(random_bits(seed, position) >> 11) * 0x1p-53;
}

namespace {

struct Candidate {
  std::uint32_t id;
  double logit;
};

std::vector<double> softmax(const std::vector<Candidate>& candidates, double temperature) {
  double most = -HUGE_VAL, total = 0;
  for (const auto& c : candidates) most = std::max(most, c.logit);
  std::vector<double> p;
  for (const auto& c : candidates)
    p.push_back(c.logit == most ? 1.0 : std::exp((c.logit - most) / temperature));
  for (double v : p) total += v;
  for (double& v : p) v /= total;
  return p;
}

/// Keeps the first of the sorted candidates whose probabilities reach `share`.
void cut(std::vector<Candidate>& sorted, double share, double& margin) {
  const auto p = softmax(sorted, 1);
  double sum = 0;
  std::size_t n = 0;
  while (n < sorted.size()) {
    sum += p[n++];
    // A difference that only tokens of no weight could make is none.
    if (std::any_of(p.begin() + static_cast<std::ptrdiff_t>(n), p.end(), [](double v) { return v > 1e-12; }))
      margin = std::min(margin, std::fabs(sum - share));
    if (sum >= share) break;
  }
  sorted.resize(n);
}

bool by_logit(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}
bool by_id(const Candidate& a, const Candidate& b) { return a.id < b.id; }

std::vector<float> adjust(const SamplingParams& params, std::vector<float> logits,
                          const std::vector<std::uint32_t>& history) {
  for (const auto& [id, bias] : params.logit_bias) logits[id] = static_cast<float>(double{logits[id]} + bias);
  const std::size_t window = params.penalty_window < 0
                                 ? history.size()
                                 : std::min(history.size(), static_cast<std::size_t>(params.penalty_window));
  std::map<std::uint32_t, int> counts;
  for (std::size_t i = history.size() - window; i < history.size(); i++) counts[history[i]]++;
  for (const auto& [id, count] : counts) {
    double logit = logits[id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= count * params.frequency_penalty + params.presence_penalty;
    logits[id] = static_cast<float>(logit);
  }
  return logits;
}

}  // namespace

SamplerReference sampler_reference(const SamplingParams& params, const std::vector<float>& logits,
                                   const std::vector<std::uint32_t>& history) {
  SamplerReference result;
  std::vector<Candidate> candidates;
  const auto adjusted = adjust(params, logits, history);
  for (std::uint32_t id = 0; id < adjusted.size(); id++)
    if (!std::isinf(adjusted[id])) candidates.push_back({id, adjusted[id]});
  std::sort(candidates.begin(), candidates.end(), by_logit);
  if (params.temperature == 0) {
    result.kept = {candidates[0].id};
    result.probabilities = {1};
    return result;
  }
  if (params.top_k > 0)
    candidates.resize(std::min(candidates.size(), static_cast<std::size_t>(params.top_k)));
  if (params.typical_p < 1) {
    const auto p = softmax(candidates, 1);
    double entropy = 0;
    for (double v : p) entropy -= v > 0 ? v * std::log(v) : 0;
    std::vector<std::pair<double, Candidate>> scored;
    const double log_total = std::log(p[0]) - candidates[0].logit;  // log p = logit + log_total
    for (const auto& c : candidates) {
      const double oddness = std::fabs(-(c.logit + log_total) - entropy);
      scored.push_back({std::round(oddness * 1e9) * 1e-9, c});  // equal logits stay equal
    }
    std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second.id < b.second.id;
    });
    for (std::size_t i = 0; i < scored.size(); i++) candidates[i] = scored[i].second;
    const std::size_t before = candidates.size();
    cut(candidates, params.typical_p, result.margin);
    const std::size_t n = candidates.size();
    // Two tokens almost equally odd, on either side of the mean, may change places at the cut.
    for (std::size_t i = n; i < before && scored[i].first - scored[n - 1].first < 1e-4; i++)
      if (scored[i].second.logit != scored[n - 1].second.logit) result.margin = 0;
    for (std::size_t i = n - 1; i-- > 0 && scored[n - 1].first - scored[i].first < 1e-4;)
      if (scored[i].second.logit != scored[n - 1].second.logit) result.margin = 0;
  }
  std::sort(candidates.begin(), candidates.end(), by_logit);
  if (params.top_p < 1) cut(candidates, params.top_p, result.margin);
  if (params.min_p > 0) {
    const double most = candidates[0].logit, least = std::log(params.min_p);
    for (const auto& c : candidates)
      if (c.logit != most) result.margin = std::min(result.margin, std::fabs(c.logit - most - least));
    std::erase_if(candidates, [&](const Candidate& c) { return c.logit - most < least; });
  }
  std::sort(candidates.begin(), candidates.end(), by_id);
  result.probabilities = softmax(candidates, params.temperature);
  for (const auto& c : candidates) result.kept.push_back(c.id);
  return result;
}

std::uint32_t SamplerReference::choose(double u) {
  double sum = 0;
  std::size_t chosen = kept.size();
  for (std::size_t i = 0; i < kept.size(); i++) {
    sum += probabilities[i];
    if (i + 1 < kept.size()) margin = std::min(margin, std::fabs(u - sum));
    if (chosen == kept.size() && (u < sum || i + 1 == kept.size())) chosen = i;
  }
  return kept[chosen];
}

}  // namespace cria
