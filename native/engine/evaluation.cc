#include "engine/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace cria {
namespace {

/// Runs tokens [from, to) of a chunk whose earlier tokens are in the cache.
void run(Decoder& decoder, std::span<const TokenId> chunk, std::size_t from, std::size_t to, bool all_logits,
         const CancelFlag& cancel) {
  const auto page_tokens = static_cast<std::size_t>(decoder.backend().info().page_tokens);
  std::vector<std::int32_t> pages((to + page_tokens - 1) / page_tokens);
  std::iota(pages.begin(), pages.end(), 0);
  const DecoderInput input{.tokens = chunk.subspan(from, to - from),
                           .first_position = static_cast<std::int32_t>(from),
                           .block_table = pages,
                           .all_logits = all_logits};
  if (!decoder.forward({&input, 1}, [&] { return cancel.cancelled(); })) cancel.check();
}

/// Fills the cache with the tokens before `first`, whose logits nobody needs.
void run_context(Decoder& decoder, std::span<const TokenId> chunk, std::size_t first,
                 const CancelFlag& cancel) {
  const auto step = static_cast<std::size_t>(decoder.max_batch_tokens());
  for (std::size_t at = 0; at < first; at += step)
    run(decoder, chunk, at, std::min(first, at + step), false, cancel);
}

/// Log-probabilities: logits less their log-sum-exp.
struct Distribution {
  std::span<const float> logits;
  double log_sum = 0;
  std::size_t top = 0;

  explicit Distribution(std::span<const float> row) : logits(row) {
    top = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    const double max = row[top];
    double sum = 0;
    for (const float logit : row) sum += std::exp(logit - max);
    log_sum = max + std::log(sum);
  }
  double log_probability(std::size_t token) const { return logits[token] - log_sum; }
};

double divergence(const Distribution& reference, const Distribution& model) {
  double kl = 0;
  for (std::size_t i = 0; i < reference.logits.size(); i++) {
    const double log_p = reference.log_probability(i);
    if (log_p > -60) kl += std::exp(log_p) * (log_p - model.log_probability(i));
  }
  return std::max(kl, 0.0);
}

void add_token(ChunkScore& score, const Distribution& model, TokenId token) {
  const double nll = -model.log_probability(token);
  score.tokens++;
  score.nll += nll;
  score.nll_squares += nll * nll;
}

void compare(ChunkScore& score, const Distribution& model, const Distribution& reference, TokenId token) {
  const double kl = divergence(reference, model);
  score.reference_nll -= reference.log_probability(token);
  score.kl += kl;
  score.kl_squares += kl * kl;
  score.kl_max = std::max(score.kl_max, kl);
  if (model.top == reference.top) score.same_top++;
}

}  // namespace

// ---- texts ----

TextChunks::TextChunks(const Tokenizer& tokenizer, const std::string& text, std::int32_t chunk_tokens)
    : chunk_tokens_(chunk_tokens) {
  tokens_ = tokenizer.encode(text, EncodeOptions{});
  if (tokenizer.adds_bos()) bos_ = tokenizer.bos();
  if (size() < 1)
    throw Error(ErrorCode::invalid_argument,
                "the text has " + std::to_string(tokens_.size()) + " tokens, expected at least a chunk of " +
                    std::to_string(chunk_tokens),
                {{"expected", chunk_tokens}, {"found", tokens_.size()}});
}

std::vector<TokenId> TextChunks::at(std::int64_t i) const {
  const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(i * chunk_tokens_);
  std::vector<TokenId> chunk(begin, begin + chunk_tokens_);
  if (bos_) chunk.front() = *bos_;
  return chunk;
}

// ---- scores ----

ChunkScore score_chunk(Decoder& model, Decoder* reference, std::span<const TokenId> chunk,
                       const CancelFlag& cancel) {
  ChunkScore score;
  const std::size_t first = chunk.size() / 2, last = chunk.size() - 1;
  std::size_t step = static_cast<std::size_t>(model.max_sequences());
  run_context(model, chunk, first, cancel);
  if (reference) {
    step = std::min(step, static_cast<std::size_t>(reference->max_sequences()));
    run_context(*reference, chunk, first, cancel);
  }
  for (std::size_t at = first; at < last; at += step) {
    const std::size_t end = std::min(last, at + step);
    run(model, chunk, at, end, true, cancel);
    if (reference) run(*reference, chunk, at, end, true, cancel);
    for (std::size_t i = at; i < end; i++) {
      const Distribution found(model.logits(i - at));
      add_token(score, found, chunk[i + 1]);
      if (reference) compare(score, found, Distribution(reference->logits(i - at)), chunk[i + 1]);
    }
  }
  return score;
}

void run_chunk(Decoder& decoder, std::span<const TokenId> chunk, const CancelFlag& cancel) {
  // The last layer runs in full only for tokens that get logits.
  const auto step = static_cast<std::size_t>(decoder.max_sequences());
  for (std::size_t at = 0; at < chunk.size(); at += step)
    run(decoder, chunk, at, std::min(chunk.size(), at + step), true, cancel);
}

void check_same_vocabulary(const Decoder& model, const Decoder& reference) {
  const std::uint32_t found = model.config().vocab_size, expected = reference.config().vocab_size;
  if (found != expected)
    throw Error(ErrorCode::invalid_argument,
                "compare: expected a model with the same vocabulary, found one of " +
                    std::to_string(expected) + " tokens beside one of " + std::to_string(found),
                {{"expected", found}, {"found", expected}});
}

}  // namespace cria
