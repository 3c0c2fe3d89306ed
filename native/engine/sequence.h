// One generation in progress: its tokens, its sampler, and the text not sent yet.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "kernels/ops.h"
#include "tokenizer/stream_decoder.h"

namespace cria {

using Clock = std::chrono::steady_clock;

class Sequence {
 public:
  /// The caller has checked `prompt`. Throws ERR_INVALID_ARGUMENT for bad sampling parameters.
  Sequence(RequestId id, GenerateRequest request, std::vector<TokenId> prompt,
           std::shared_ptr<const Tokenizer> tokenizer, std::int32_t context_length, Clock::time_point queued);

  RequestId id() const { return id_; }
  /// Prompt and generated tokens.
  std::span<const TokenId> tokens() const { return tokens_; }
  std::int32_t max_tokens() const { return request_.max_tokens; }
  OnContextFull on_context_full() const { return request_.on_context_full; }
  const Usage& usage() const { return usage_; }

  /// How the backend may choose the next token; on_host when that takes sample().
  SampleRow sample_row() const;
  /// The next token from the logits after the last one.
  SampledToken sample(std::span<const float> logits);

  /// Adds a sampled token. Appends text that is ready to send to `out`, and returns the end of the sequence
  /// if the token ends it. Not to be called after an end.
  std::optional<EndEvent> accept(SampledToken token, std::vector<Event>& out);

  /// Whether the context is full after accept(): then the sequence can continue only after shift().
  bool needs_shift() const;
  /// Drops the older half of the tokens after those to keep.
  void shift();

  /// Ends the sequence for an outside reason (cancelled, no memory), and appends the text not sent yet to
  /// `out`.
  EndEvent finish(FinishReason reason, std::vector<Event>& out);

  /// The first step begins.
  void started();
  /// The whole prompt is in the cache; `n_cached_tokens` of it were there before.
  void prefilled(std::int32_t n_cached_tokens);
  void preempted() { usage_.preemptions++; }

 private:
  /// The position of the next token. It counts dropped tokens, so that no random bits are used twice.
  std::uint64_t position() const;
  bool ends_generation(TokenId id) const;
  /// Moves text that can no longer begin a stop string to `out`, or with `all` the whole text.
  void send_ready(bool all, std::vector<Event>& out);
  EndEvent end(FinishReason reason, std::string stop_string, std::vector<Event>& out);

  RequestId id_;
  GenerateRequest request_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::int32_t context_length_;
  std::vector<TokenId> tokens_;
  Sampler sampler_;
  StreamDecoder decoder_;
  std::string held_text_;  // text that may begin a stop string
  ChunkEvent held_;        // tokens whose text is incomplete or not sent yet
  Usage usage_;
  Clock::time_point queued_, started_, prefilled_;
  bool has_started_ = false, has_prefilled_ = false;
};

}  // namespace cria
