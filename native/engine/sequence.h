// One generation in progress: its tokens, its sampler, and the text that waits to be sent.
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
  /// `prompt` has been checked. Throws ERR_INVALID_ARGUMENT for bad sampling parameters.
  Sequence(RequestId id, GenerateRequest request, std::vector<TokenId> prompt,
           std::shared_ptr<const Tokenizer> tokenizer, std::int32_t context_length, Clock::time_point queued);

  RequestId id() const { return id_; }
  std::span<const TokenId> tokens() const { return tokens_; }  // prompt and generated
  std::int32_t max_tokens() const { return request_.max_tokens; }
  OnContextFull on_context_full() const { return request_.on_context_full; }
  const Usage& usage() const { return usage_; }

  /// How the backend may choose the next token; on_host when that takes sample().
  SampleRow sample_row() const;
  /// The next token from the logits after the last one.
  SampledToken sample(std::span<const float> logits);

  /// Takes a sampled token in: appends what became ready to send to `out`, and says whether the sequence has
  /// ended. Not called again after an end.
  std::optional<EndEvent> accept(SampledToken token, std::vector<Event>& out);

  /// Whether the context is full after accept(): the sequence goes on only after shift().
  bool needs_shift() const;
  /// Drops the older half of what follows the kept tokens.
  void shift();

  /// Ends it from outside (cancel, no room), sending what was held back.
  EndEvent finish(FinishReason reason, std::vector<Event>& out);

  void started();                                // its first step begins
  void prefilled(std::int32_t n_cached_tokens);  // its prompt is in the cache
  void preempted() { usage_.preemptions++; }

 private:
  /// Of the next token. Counts dropped tokens too, so that no random bits are used twice.
  std::uint64_t position() const;
  bool ends_generation(TokenId id) const;
  /// Moves text that can no longer become a stop string to `out`; all of it when `all`.
  void send_ready(bool all, std::vector<Event>& out);
  EndEvent end(FinishReason reason, std::string stop_string, std::vector<Event>& out);

  RequestId id_;
  GenerateRequest request_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::int32_t context_length_;
  std::vector<TokenId> tokens_;
  Sampler sampler_;
  StreamDecoder decoder_;
  std::string held_text_;  // might be the beginning of a stop string
  ChunkEvent held_;        // tokens whose text is not complete or not sent yet
  Usage usage_;
  Clock::time_point queued_, started_, prefilled_;
  bool has_started_ = false, has_prefilled_ = false;
};

}  // namespace cria
