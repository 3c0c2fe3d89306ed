// What a caller asks of the engine, and what it answers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/cancel.h"
#include "core/error.h"
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

struct GenerateRequest {
  Prompt prompt;
  SamplingParams sampling;
  std::int32_t max_tokens = -1;  // -1: until the context is full
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false;
  bool show_special = false;  // control tokens are spelled out in the text
  bool starts_text = false;   // a dummy-prefix space at the start of the answer is dropped
};

/// Logits after the last id.
struct LogitsRequest {
  std::vector<TokenId> ids;
};

enum class FinishReason { stop, stop_string, length, context, abort };

struct Usage {
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;
  std::int32_t generated_tokens = 0;
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
};

struct ChunkEvent {
  std::string text;  // whole UTF-8 characters
  std::vector<TokenId> tokens;
  std::vector<SampledToken> logprobs;  // one per token when asked for, else empty
};
struct EndEvent {
  FinishReason reason;
  std::string stop_string;
  Usage usage;
};
struct LogitsEvent {
  std::vector<float> logits;
};
using Event = std::variant<ChunkEvent, EndEvent, LogitsEvent, Error>;

/// Every request ends with exactly one EndEvent, LogitsEvent or Error.
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
