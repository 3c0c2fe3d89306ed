#include "engine/sequence.h"

#include <algorithm>
#include <utility>

namespace cria {
namespace {

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// Length of the longest suffix of `text` that is a proper prefix of `stop`.
std::size_t overlap(const std::string& text, const std::string& stop) {
  for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; n--)
    if (text.compare(text.size() - n, n, stop, 0, n) == 0) return n;
  return 0;
}

/// The last position at or before `at` that does not split a UTF-8 character.
std::size_t character_boundary(const std::string& text, std::size_t at) {
  while (at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) at--;
  return at;
}

}  // namespace

Sequence::Sequence(RequestId id, GenerateRequest request, std::vector<TokenId> prompt,
                   std::shared_ptr<const Tokenizer> tokenizer, std::int32_t context_length,
                   Clock::time_point queued)
    : id_(id),
      request_(std::move(request)),
      tokenizer_(std::move(tokenizer)),
      context_length_(context_length),
      tokens_(std::move(prompt)),
      sampler_(request_.sampling, tokenizer_->vocab_size()),
      decoder_(tokenizer_, request_.show_special, request_.starts_text),
      queued_(queued),
      started_(queued),
      prefilled_(queued) {
  usage_.prompt_tokens = static_cast<std::int32_t>(tokens_.size());
  std::erase_if(request_.stop, [](const std::string& s) { return s.empty(); });
}

void Sequence::started() {
  has_started_ = true;
  started_ = prefilled_ = Clock::now();
  usage_.queue_ms = ms_between(queued_, started_);
}

void Sequence::prefilled(std::int32_t n_cached_tokens) {
  has_prefilled_ = true;
  prefilled_ = Clock::now();
  usage_.cached_tokens = n_cached_tokens;
  usage_.prefill_ms = ms_between(started_, prefilled_);
}

SampleRow Sequence::sample_row() const {
  const SamplingParams& p = request_.sampling;
  const bool has_penalties = p.repetition_penalty != 1 || p.frequency_penalty != 0 || p.presence_penalty != 0;
  const bool is_typical = p.temperature != 0 && p.typical_p < 1;
  return {.on_host = has_penalties || is_typical || !p.logit_bias.empty() || p.logprobs >= 0,
          .temperature = p.temperature,
          .top_k = p.top_k,
          .top_p = p.top_p,
          .min_p = p.min_p,
          .seed = p.seed,
          .position = position()};
}

std::uint64_t Sequence::position() const {
  return static_cast<std::uint64_t>(usage_.prompt_tokens + usage_.generated_tokens);
}

SampledToken Sequence::sample(std::span<const float> logits) {
  return sampler_.sample(logits, tokens_, position());
}

bool Sequence::needs_shift() const { return static_cast<std::int32_t>(tokens_.size()) >= context_length_; }

void Sequence::shift() {
  const auto size = static_cast<std::int32_t>(tokens_.size());
  std::int32_t keep = request_.keep_tokens;
  if (keep < 0) keep = std::min(usage_.prompt_tokens, context_length_ / 2);
  keep = std::min(keep, size - 2);  // at least one token is dropped and one remains after the kept ones
  const std::int32_t dropped = std::max(1, (size - keep) / 2);
  tokens_.erase(tokens_.begin() + keep, tokens_.begin() + keep + dropped);
  usage_.dropped_tokens += dropped;
}

bool Sequence::ends_generation(TokenId id) const {
  if (contains(request_.stop_tokens, id)) return true;
  return !request_.ignore_eos && contains(tokenizer_->end_of_generation_ids(), id);
}

std::optional<EndEvent> Sequence::accept(SampledToken token, std::vector<Event>& out) {
  const TokenId id = token.id;
  if (ends_generation(id)) return end(FinishReason::stop, {}, out);

  tokens_.push_back(id);
  usage_.generated_tokens++;
  held_.tokens.push_back(id);
  if (request_.sampling.logprobs >= 0) held_.logprobs.push_back(std::move(token));
  held_text_ += decoder_.push(id);

  std::size_t stop_at = std::string::npos;
  const std::string* found = nullptr;
  for (const std::string& stop : request_.stop) {
    const std::size_t at = held_text_.find(stop);
    if (at < stop_at) {
      stop_at = at;
      found = &stop;
    }
  }
  if (found) {
    held_text_.resize(stop_at);
    return end(FinishReason::stop_string, *found, out);
  }
  send_ready(false, out);
  if (request_.max_tokens >= 0 && usage_.generated_tokens >= request_.max_tokens)
    return end(FinishReason::length, {}, out);
  if (needs_shift() && request_.on_context_full != OnContextFull::shift)
    return end(FinishReason::context, {}, out);
  return std::nullopt;
}

EndEvent Sequence::finish(FinishReason reason, std::vector<Event>& out) { return end(reason, {}, out); }

void Sequence::send_ready(bool all, std::vector<Event>& out) {
  std::size_t keep = 0;
  if (!all)
    for (const std::string& stop : request_.stop) keep = std::max(keep, overlap(held_text_, stop));
  const std::size_t ready = character_boundary(held_text_, held_text_.size() - keep);
  if (ready == 0 && !(all && !held_.tokens.empty())) return;
  held_.text = held_text_.substr(0, ready);
  held_text_.erase(0, ready);
  out.emplace_back(std::exchange(held_, {}));
}

EndEvent Sequence::end(FinishReason reason, std::string stop_string, std::vector<Event>& out) {
  if (reason != FinishReason::stop_string) held_text_ += decoder_.finish();
  send_ready(true, out);
  // The time of the phase that it ended in.
  double& last_ms = !has_started_ ? usage_.queue_ms : !has_prefilled_ ? usage_.prefill_ms : usage_.decode_ms;
  last_ms = ms_between(prefilled_, Clock::now());
  return {reason, std::move(stop_string), usage_};
}

}  // namespace cria
