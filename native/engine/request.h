// Requests to the engine and the events it answers with.
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
#include "model/adapter.h"
#include "sampler/params.h"
#include "sampler/sampler.h"
#include "tokenizer/tokenizer.h"

namespace cria {

using RequestId = std::uint64_t;

/// A prompt as text in pieces (see Tokenizer::encode).
struct PromptText {
  /// Text, and whether the spellings of special tokens in it become those tokens.
  std::vector<std::pair<std::string, bool>> pieces;
  /// EncodeOptions::bos.
  std::optional<bool> bos;
};
using Prompt = std::variant<PromptText, std::vector<TokenId>>;

/// What happens when a generation has filled the context.
enum class OnContextFull {
  stop,   // it ends with FinishReason::context
  error,  // it fails with ERR_CONTEXT_FULL
  shift,  // older tokens are dropped and the rest is recomputed
};

struct GenerateRequest {
  Prompt prompt;
  SamplingParams sampling;
  std::int32_t max_tokens = -1;  // -1: until the context is full
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false;
  bool show_special = false;  // the text includes the spellings of control tokens
  bool starts_text = false;   // drop SentencePiece's dummy prefix at the start of the text
  std::int32_t priority = 0;  // higher goes first; see Scheduler
  double timeout_ms = 0;      // from submission to the last token; 0: none
  OnContextFull on_context_full = OnContextFull::stop;
  /// The number of leading tokens that a shift keeps; -1: the prompt, but at most half of the context.
  std::int32_t keep_tokens = -1;
  /// Of those loaded with the model; need not be in normal form, here and below.
  AdapterSet adapters = {};
};

/// Asks for the logits after the last id.
struct LogitsRequest {
  std::vector<TokenId> ids;
  AdapterSet adapters = {};
};

/// Asks for the K and V of a prompt; computes those that are not in the cache.
struct SaveStateRequest {
  Prompt prompt;
  AdapterSet adapters = {};
};
/// Puts K and V saved by a model with the same fingerprint and layout into the cache, for requests with these
/// adapters, with which they were computed.
struct RestoreStateRequest {
  std::shared_ptr<const KvState> state;
  AdapterSet adapters = {};
};

enum class FinishReason { stop, stop_string, length, context, abort };

struct Usage {
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;  // prompt tokens whose K and V were in the cache
  std::int32_t generated_tokens = 0;
  std::int32_t dropped_tokens = 0;  // by context shifts
  std::int32_t preemptions = 0;
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
};

struct ChunkEvent {
  std::string text;  // whole UTF-8 characters
  std::vector<TokenId> tokens;
  std::vector<SampledToken> logprobs;  // one per token if requested, else empty
};
/// A change of state, for information.
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

/// Whether it is a request's last event: a request has any number of ChunkEvents and StatusEvents, then
/// exactly one event of another type.
inline bool is_last(const Event& event) {
  return !std::holds_alternative<ChunkEvent>(event) && !std::holds_alternative<StatusEvent>(event);
}

struct Delivery {
  RequestId request;
  Event event;
};

/// Receives the events of each step.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// Called on the engine thread. Must not throw, nor block for long.
  virtual void deliver(std::vector<Delivery>&& deliveries) = 0;
};

}  // namespace cria
