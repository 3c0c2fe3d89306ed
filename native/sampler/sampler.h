// Logits -> token. One Sampler per request; its answers are a pure function of the parameters, the logits,
// the history within the penalty window and the position.
//
// The order of the stages:
//   1. logit bias: added; -infinity forbids the token.
//   2. penalties, for the tokens of the history's last `penalty_window`, each counted c > 0 times:
//      repetition (once per token; CTRL, Keskar et al. 2019): positive logits divided by it, others
//      multiplied; then frequency and presence (OpenAI): logit -= c * frequency + presence.
//   3. temperature 0: the largest logit, the lowest id among equals. Otherwise, each on the probabilities at
//      temperature 1 renormalised over what the stages before it kept, at least one token being kept:
//   4. top-k: the k largest logits.
//   5. typical (Meister et al. 2022): ascending |surprise - entropy| until the sum reaches typical_p.
//   6. top-p (Holtzman et al. 2019): descending logits until the probabilities sum to top_p.
//   7. min-p (Nguyen et al. 2024): probability at least min_p times the largest.
//   8. temperature, and the draw: the kept tokens in ascending id, the first whose cumulated weight exceeds
//      multiply_high(random_bits(seed, position), total weight).
// Equal logits, or equally typical ones, are taken in ascending id.
//
// Log-probabilities are the model's: log-softmax of the unmodified logits, before bias and penalties.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampler/params.h"

namespace cria {

struct TokenLogprob {
  std::uint32_t id = 0;
  float logprob = 0;
};

struct SampledToken {
  std::uint32_t id = 0;
  // 0 when params.logprobs is -1.
  float logprob = 0;
  // The params.logprobs most likely tokens, descending, without tokens of probability 0.
  std::vector<TokenLogprob> top;
};

class Sampler {
 public:
  /// Checks the parameters (ERR_INVALID_ARGUMENT).
  Sampler(SamplingParams params, std::uint32_t vocab_size);

  /// logits: [vocab_size] float32; -infinity is allowed. history: prompt and generated ids, oldest first.
  /// position: of the token to be chosen within its sequence; a position gives the same random bits every
  /// time. Errors: ERR_INVALID_MODEL when a logit is NaN or +infinity, or all are -infinity;
  /// ERR_INVALID_ARGUMENT when the bias forbids every token or the history holds an id beyond the vocabulary.
  /// Allocates nothing after the first calls, but for the `top` that it returns. Not thread-safe.
  SampledToken sample(std::span<const float> logits, std::span<const std::uint32_t> history,
                      std::uint64_t position);

  const SamplingParams& params() const noexcept { return params_; }

 private:
  // Tokens per block of the vocabulary, and per chunk of a list.
  static constexpr std::size_t kBlock = 64;

  void scan(std::span<const float> logits);
  void adjust(std::span<const float> logits, std::span<const std::uint32_t> window);
  std::uint32_t argmax() const;
  std::uint32_t draw(std::uint64_t position);

  void apply_top_k();
  void apply_typical();
  void apply_top_p();
  void apply_min_p();

  void select_largest(std::size_t count);
  void keep_until(std::uint64_t last_key);
  void update_max();
  template <typename Rank, typename Distance>
  std::uint64_t last_key_of_mass(double share, Rank rank, Distance distance);
  template <typename Predicate, typename BlockPredicate>
  void keep_if(Predicate keep, BlockPredicate block_may_hold);

  std::size_t chunks() const noexcept;
  std::uint32_t id_at(std::size_t i) const noexcept {
    return all_kept_ ? static_cast<std::uint32_t>(i) : kept_[i];
  }
  std::size_t chunk_weights(std::size_t chunk, float inverse_temperature, std::uint64_t* weights) const;
  template <typename Visitor>
  void visit_weights(Visitor visit) const;
  template <typename Visitor>
  void visit_ids(Visitor visit) const;

  SamplingParams params_;
  std::uint32_t vocab_size_;
  bool penalises_;

  // The state of one call: the logits in use, their maximum among the kept tokens, and which tokens are
  // kept.
  std::span<const float> logits_;
  float max_logit_ = 0;
  bool all_kept_ = true;             // when false, kept_ says which
  std::vector<std::uint32_t> kept_;  // ascending

  // Scratch, kept from call to call.
  std::vector<float> block_max_;       // largest logit of each block of the vocabulary
  std::vector<float> block_order_;     // block_max_, partially sorted
  std::vector<std::uint64_t> masses_;  // weight of each chunk, or of each step of distance
  std::vector<std::uint64_t> keys_;
  std::vector<float> adjusted_;        // logits after bias and penalties
  std::vector<std::uint32_t> counts_;  // per token, all 0 between calls
};

}  // namespace cria
