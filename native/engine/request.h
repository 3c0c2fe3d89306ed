// What a caller asks of the engine, and what it answers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/cancel.h"
#include "core/error.h"
#include "io/kv_state_file.h"
#include "sampler/params.h"
#include "sampler/sampler.h"
#include "tokenizer/tokenizer.h"

namespace cria {

using RequestId = std::uint64_t;

/// A prompt as text in pieces (see Tokenizer::encode), kept by the request.
struct PromptText {
  std::vector<std::pair<std::string, bool>> pieces;  // text, and whether special-token spellings in it count
  std::optional<bool> bos;
};
using Prompt = std::variant<PromptText, std::vector<TokenId>>;

/// What happens when a generation has filled the context.
enum class OnContextFull {
  stop,   // it ends, with FinishReason::context
  error,  // it fails, with ERR_CONTEXT_FULL
  shift,  // older tokens are dropped and the rest is computed anew
};

struct GenerateRequest {
  Prompt prompt;
  SamplingParams sampling;
  std::int32_t max_tokens = -1;  // -1: until the context is full
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false;
  bool show_special = false;  // control tokens are spelled out in the text
  bool starts_text = false;   // a dummy-prefix space at the start of the answer is dropped
  std::int32_t priority = 0;  // greater goes first (Scheduler says how)
  double timeout_ms = 0;      // from submission to the last token; 0: none
  OnContextFull on_context_full = OnContextFull::stop;
  std::int32_t keep_tokens =
      -1;  // first tokens that a shift keeps; -1: the prompt, at most half of the context
};

/// Logits after the last id.
struct LogitsRequest {
  std::vector<TokenId> ids;
};

/// The K and V of a prompt, computed when they are not in the cache.
struct SaveStateRequest {
  Prompt prompt;
};
/// Puts K and V, saved by a model with the same fingerprint and layout, into the cache.
struct RestoreStateRequest {
  std::shared_ptr<const KvState> state;
};

enum class FinishReason { stop, stop_string, length, context, abort };

struct Usage {
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;  // of the prompt, those whose K and V were in the cache
  std::int32_t generated_tokens = 0;
  std::int32_t dropped_tokens = 0;  // by context shifts
  std::int32_t preemptions = 0;
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
};

struct ChunkEvent {
  std::string text;  // whole UTF-8 characters
  std::vector<TokenId> tokens;
  std::vector<SampledToken> logprobs;  // one per token when asked for, else empty
};
/// The request goes from one state to another; for whoever watches.
struct StatusEvent {
  enum class Status { started, preempted } status;
};
struct EndEvent {
  FinishReason reason;
  std::string stop_string;
  Usage usage;
};
struct LogitsEvent {
  std::vector<float> logits;
};
struct StateSavedEvent {
  std::shared_ptr<const KvState> state;
};
struct StateRestoredEvent {
  std::int32_t n_tokens = 0;
};
using Event =
    std::variant<ChunkEvent, StatusEvent, EndEvent, LogitsEvent, StateSavedEvent, StateRestoredEvent, Error>;

/// Whether nothing comes after it: a request has any number of ChunkEvents and StatusEvents, then exactly one
/// event of another type.
inline bool is_last(const Event& event) {
  return !std::holds_alternative<ChunkEvent>(event) && !std::holds_alternative<StatusEvent>(event);
}

struct Delivery {
  RequestId request;
  Event event;
};

/// Receives what a step produced, on the engine thread; must not block for long and must not throw.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void deliver(std::vector<Delivery>&& deliveries) = 0;
};

}  // namespace cria
