#include "sampler/sampler.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/float_bits.h"
#include "sampler/weights.h"

namespace cria {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Steps of distance in the histogram that finds where a mass is reached: 1/64 each, up to where weights
// vanish.
constexpr std::size_t kSteps = 2048;
constexpr float kStepsPerUnit = 64.0f;

std::size_t step_of(float distance) {
  const float step = distance * kStepsPerUnit;
  return step < static_cast<float>(kSteps - 1) ? static_cast<std::size_t>(step) : kSteps - 1;
}

/// The largest of 64 logits; `sound` lanes become 0 where one is NaN or +infinity.
float max_of_64(const float* x, Int4& sound) {
  Float4 max[4];
  for (std::size_t l = 0; l < 4; l++) max[l] = splat4(kMinusInfinity);
  for (std::size_t i = 0; i < 64; i += 16) {
    for (std::size_t l = 0; l < 4; l++) {
      const Float4 v = load4(x + i + 4 * l);
      max[l] = v > max[l] ? v : max[l];
      sound &= v <= FLT_MAX;
    }
  }
  for (std::size_t l = 1; l < 4; l++) max[0] = max[l] > max[0] ? max[l] : max[0];
  return std::max(std::max(max[0][0], max[0][1]), std::max(max[0][2], max[0][3]));
}

float clamp_to_float(double value) {
  return static_cast<float>(std::clamp(value, -static_cast<double>(FLT_MAX), static_cast<double>(FLT_MAX)));
}

}  // namespace

Sampler::Sampler(SamplingParams params, std::uint32_t vocab_size)
    : params_(std::move(params)), vocab_size_(vocab_size) {
  if (vocab_size == 0) throw Error(ErrorCode::invalid_model, "the vocabulary is empty");
  params_.check(vocab_size);
  penalises_ =
      params_.penalty_window != 0 &&
      (params_.repetition_penalty != 1 || params_.frequency_penalty != 0 || params_.presence_penalty != 0);
  block_max_.resize((vocab_size + kBlock - 1) / kBlock);
  block_order_.reserve(block_max_.size());
  masses_.resize(std::max(block_max_.size(), kSteps));
  if (penalises_) counts_.resize(vocab_size);
}

SampledToken Sampler::sample(std::span<const float> logits, std::span<const std::uint32_t> history,
                             std::uint64_t position) {
  if (logits.size() != vocab_size_)
    throw Error(ErrorCode::internal, "the sampler got logits of another vocabulary",
                {{"expected", vocab_size_}, {"found", logits.size()}});
  scan(logits);
  if (max_logit_ == kMinusInfinity)
    throw Error(ErrorCode::invalid_model, "logits are not finite: all are -infinity");

  SampledToken result;
  const float model_max = max_logit_;
  double log_total = 0;
  if (params_.logprobs >= 0) {
    std::uint64_t total = 0;
    visit_weights([&](std::uint32_t, std::uint64_t weight) { total += weight; });
    log_total = std::log(static_cast<double>(total) / static_cast<double>(kWeightOne));
  }
  const auto logprob_of = [&](std::uint32_t id) {
    return static_cast<float>(static_cast<double>(logits[id]) - model_max - log_total);
  };
  if (params_.logprobs > 0) {
    select_largest(static_cast<std::size_t>(params_.logprobs));
    std::sort(keys_.begin(), keys_.end());
    result.top.reserve(keys_.size());
    for (std::uint64_t key : keys_) result.top.push_back({id_of(key), logprob_of(id_of(key))});
  }

  if (penalises_ || !params_.logit_bias.empty()) {
    const auto length =
        params_.penalty_window < 0 ? history.size() : static_cast<std::size_t>(params_.penalty_window);
    adjust(logits, penalises_ ? history.last(std::min(length, history.size())) : history.first(0));
    scan(adjusted_);
    if (max_logit_ == kMinusInfinity)
      throw Error(ErrorCode::invalid_argument, "logitBias forbids every token");
  }
  if (params_.temperature == 0) {
    result.id = argmax();
  } else {
    apply_top_k();
    apply_typical();
    apply_top_p();
    apply_min_p();
    result.id = draw(position);
  }
  if (params_.logprobs >= 0) result.logprob = logprob_of(result.id);
  return result;
}

/// Starts on these logits with all tokens kept.
void Sampler::scan(std::span<const float> logits) {
  static_assert(kBlock == 64, "max_of_64() takes 64");
  Int4 sound = {-1, -1, -1, -1};
  const std::size_t whole = logits.size() / kBlock;
  for (std::size_t b = 0; b < whole; b++) block_max_[b] = max_of_64(logits.data() + b * kBlock, sound);
  if (whole < block_max_.size()) {
    float rest[kBlock];
    std::fill(std::copy(logits.begin() + static_cast<std::ptrdiff_t>(whole * kBlock), logits.end(), rest),
              rest + kBlock, kMinusInfinity);
    block_max_[whole] = max_of_64(rest, sound);
  }
  float max_logit = kMinusInfinity;
  for (const float block_max : block_max_) max_logit = std::max(max_logit, block_max);
  if (!(sound[0] & sound[1] & sound[2] & sound[3]))
    throw Error(ErrorCode::invalid_model, "logits are not finite");
  logits_ = logits;
  max_logit_ = max_logit;
  all_kept_ = true;
}

/// adjusted_ = logits after bias and penalties. Results beyond float32 stay at its ends: only a bias of
/// -infinity, or the model, forbids a token.
void Sampler::adjust(std::span<const float> logits, std::span<const std::uint32_t> window) {
  for (std::uint32_t id : window)
    if (id >= vocab_size_)
      throw Error(ErrorCode::invalid_argument, "the history holds an id beyond the vocabulary",
                  {{"expected", vocab_size_}, {"found", id}});
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : params_.logit_bias) {
    float& logit = adjusted_[id];
    if (bias == kMinusInfinity) logit = kMinusInfinity;
    if (logit != kMinusInfinity) logit = clamp_to_float(static_cast<double>(logit) + bias);
  }
  for (std::uint32_t id : window) counts_[id]++;
  for (std::uint32_t id : window) {
    const double count = std::exchange(counts_[id], 0);
    float& logit = adjusted_[id];
    if (count == 0 || logit == kMinusInfinity) continue;
    double value = logit;
    value = value > 0 ? value / params_.repetition_penalty : value * params_.repetition_penalty;
    logit = clamp_to_float(value - (count * params_.frequency_penalty + params_.presence_penalty));
  }
}

std::uint32_t Sampler::argmax() const {
  const auto block = std::find(block_max_.begin(), block_max_.end(), max_logit_) - block_max_.begin();
  const auto first = logits_.begin() + block * static_cast<std::ptrdiff_t>(kBlock);
  return static_cast<std::uint32_t>(std::find(first, logits_.end(), max_logit_) - logits_.begin());
}

// ---- walking over the kept tokens ----

std::size_t Sampler::chunks() const noexcept {
  return all_kept_ ? block_max_.size() : (kept_.size() + kBlock - 1) / kBlock;
}

/// The weights of a chunk's tokens, and how many there are: 0 also when none of them weighs anything.
std::size_t Sampler::chunk_weights(std::size_t chunk, float inverse_temperature,
                                   std::uint64_t* weights) const {
  const std::size_t first = chunk * kBlock;
  const std::size_t n = std::min(kBlock, (all_kept_ ? logits_.size() : kept_.size()) - first);
  if (all_kept_ && (block_max_[chunk] - max_logit_) * inverse_temperature < -kWeightlessDistance) return 0;
  if (all_kept_ && n == kBlock) {
    weights_of(logits_.data() + first, n, max_logit_, inverse_temperature, weights);
    return n;
  }
  float x[kBlock];
  for (std::size_t i = 0; i < n; i++) x[i] = logits_[id_at(first + i)];
  std::fill(x + n, x + kBlock, kMinusInfinity);
  weights_of(x, n, max_logit_, inverse_temperature, weights);
  return n;
}

/// visit(id, weight at temperature 1) in ascending id; blocks that weigh nothing are left out.
template <typename Visitor>
void Sampler::visit_weights(Visitor visit) const {
  std::uint64_t weights[kBlock];
  for (std::size_t c = 0; c < chunks(); c++) {
    const std::size_t n = chunk_weights(c, 1.0f, weights);
    for (std::size_t i = 0; i < n; i++) visit(id_at(c * kBlock + i), weights[i]);
  }
}

template <typename Visitor>
void Sampler::visit_ids(Visitor visit) const {
  if (all_kept_) {
    for (std::uint32_t id = 0; id < vocab_size_; id++) visit(id);
  } else {
    for (std::uint32_t id : kept_) visit(id);
  }
}

/// Keeps the tokens for which keep(id) holds. It may hold within a block of the vocabulary only where
/// block_may_hold(largest logit of the block) does: nearly all blocks are passed over.
template <typename Predicate, typename BlockPredicate>
void Sampler::keep_if(Predicate keep, BlockPredicate block_may_hold) {
  if (!all_kept_) {
    std::erase_if(kept_, [&](std::uint32_t id) { return !keep(id); });
    return;
  }
  kept_.clear();
  for (std::size_t b = 0; b < block_max_.size(); b++) {
    if (!block_may_hold(block_max_[b])) continue;
    const std::size_t end = std::min((b + 1) * kBlock, logits_.size());
    for (std::size_t i = b * kBlock; i < end; i++)
      if (keep(static_cast<std::uint32_t>(i))) kept_.push_back(static_cast<std::uint32_t>(i));
  }
  all_kept_ = false;
}

/// Keeps what comes no later than `last_key` in the order of descending logits.
void Sampler::keep_until(std::uint64_t last_key) {
  const float min = logits_[id_of(last_key)];
  keep_if([&](std::uint32_t id) { return descending_key(logits_[id], id) <= last_key; },
          [&](float max_of_block) { return max_of_block >= min; });
}

void Sampler::update_max() {
  max_logit_ = kMinusInfinity;
  for (std::uint32_t id : kept_) max_logit_ = std::max(max_logit_, logits_[id]);
}

// ---- the stages ----

/// keys_ = those of the `count` largest logits of all, fewer when fewer are finite; the last of them at the
/// back.
void Sampler::select_largest(std::size_t count) {
  // At least `count` blocks have an element no less than the count-th largest block maximum, so nothing
  // below that can belong to the selection, and nearly all blocks are passed over.
  float bound = std::numeric_limits<float>::lowest();
  if (count <= block_max_.size()) {
    block_order_.assign(block_max_.begin(), block_max_.end());
    const auto nth = block_order_.begin() + static_cast<std::ptrdiff_t>(count) - 1;
    std::nth_element(block_order_.begin(), nth, block_order_.end(), std::greater<>());
    bound = std::max(bound, *nth);
  }
  keys_.clear();
  for (std::size_t b = 0; b < block_max_.size(); b++) {
    if (block_max_[b] < bound) continue;
    const std::size_t end = std::min((b + 1) * kBlock, logits_.size());
    for (std::size_t i = b * kBlock; i < end; i++)
      if (logits_[i] >= bound) keys_.push_back(descending_key(logits_[i], static_cast<std::uint32_t>(i)));
  }
  if (keys_.size() > count) {
    std::nth_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count) - 1, keys_.end());
    keys_.resize(count);
  } else if (!keys_.empty()) {
    std::iter_swap(std::max_element(keys_.begin(), keys_.end()), keys_.end() - 1);
  }
}

void Sampler::apply_top_k() {
  if (params_.top_k == 0 || static_cast<std::uint32_t>(params_.top_k) >= vocab_size_) return;
  select_largest(static_cast<std::size_t>(params_.top_k));
  keep_until(keys_.back());
}

/// Key of the last token needed when the kept ones are taken in ascending key, rank(logit) << 32 | id, until
/// their weights at temperature 1 reach `share` of the total. distance(logit) >= 0 ascends with the rank.
template <typename Rank, typename Distance>
std::uint64_t Sampler::last_key_of_mass(double share, Rank rank, Distance distance) {
  std::fill(masses_.begin(), masses_.begin() + kSteps, 0);
  std::uint64_t total = 0;
  visit_weights([&](std::uint32_t id, std::uint64_t weight) {
    if (weight == 0) return;
    masses_[step_of(distance(logits_[id]))] += weight;
    total += weight;
  });
  const auto share_of_total = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total)));
  std::uint64_t missing = std::clamp<std::uint64_t>(share_of_total, 1, total);
  std::size_t step = 0;
  while (masses_[step] < missing) missing -= masses_[step++];

  // Only the tokens of one step need an order, found by halving rather than sorting.
  keys_.clear();
  visit_ids([&](std::uint32_t id) {
    const float logit = logits_[id];
    if (logit != kMinusInfinity && step_of(distance(logit)) == step)
      keys_.push_back(std::uint64_t{rank(logit)} << 32 | id);
  });
  auto first = keys_.begin(), last = keys_.end();
  while (last - first > 1) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last);
    std::uint64_t mass = 0;
    for (auto key = first; key != middle; ++key) mass += weight_of(logits_[id_of(*key)] - max_logit_, 1.0f);
    if (mass >= missing) {
      last = middle;
    } else {
      missing -= mass;
      first = middle;
    }
  }
  return *first;
}

void Sampler::apply_typical() {
  if (params_.typical_p >= 1) return;
  // With x the logits' distances from the largest, surprise - entropy = mean of x - x: the normaliser
  // cancels out.
  double total = 0, moment = 0;
  visit_weights([&](std::uint32_t id, std::uint64_t weight) {
    if (weight == 0) return;
    total += static_cast<double>(weight);
    moment += static_cast<double>(weight) * (logits_[id] - max_logit_);
  });
  const double mean = moment / total;
  const auto oddness = [&](float logit) {
    return static_cast<float>(std::fabs(mean - (logit - max_logit_)));
  };
  const auto rank = [&](float logit) { return float_bits(oddness(logit)); };
  const std::uint64_t last_key = last_key_of_mass(params_.typical_p, rank, oddness);
  keep_if([&](std::uint32_t id) { return (std::uint64_t{rank(logits_[id])} << 32 | id) <= last_key; },
          [](float) { return true; });
  update_max();
}

void Sampler::apply_top_p() {
  if (params_.top_p >= 1) return;
  keep_until(last_key_of_mass(
      params_.top_p, [](float logit) { return ~ascending_bits(logit); },
      [&](float logit) { return max_logit_ - logit; }));
}

void Sampler::apply_min_p() {
  if (params_.min_p <= 0) return;
  const auto min_distance = static_cast<float>(std::log(params_.min_p));
  const auto likely = [&](float logit) { return logit - max_logit_ >= min_distance; };
  keep_if([&](std::uint32_t id) { return likely(logits_[id]); }, likely);
}

std::uint32_t Sampler::draw(std::uint64_t position) {
  const float inverse_temperature = static_cast<float>(std::min<double>(1.0 / params_.temperature, FLT_MAX));
  std::uint64_t weights[kBlock];
  std::uint64_t total = 0;
  if (masses_.size() < chunks()) masses_.resize(chunks());
  for (std::size_t c = 0; c < chunks(); c++) {
    const std::size_t n = chunk_weights(c, inverse_temperature, weights);
    masses_[c] = 0;
    for (std::size_t i = 0; i < n; i++) masses_[c] += weights[i];
    total += masses_[c];
  }
  std::uint64_t target = multiply_high(random_bits(params_.seed, position), total);
  std::size_t chunk = 0;
  while (masses_[chunk] <= target) target -= masses_[chunk++];
  chunk_weights(chunk, inverse_temperature, weights);
  std::size_t i = 0;
  while (weights[i] <= target) target -= weights[i++];
  return id_at(chunk * kBlock + i);
}

}  // namespace cria
