#include "tokenizer/stream_decoder.h"

#include "tokenizer/unicode.h"

namespace cria {

std::string_view TextBytes::next(TokenId id) {
  std::string_view bytes = tokenizer_.token_bytes(id, special_);
  if (bytes.empty()) return bytes;  // a hidden token does not end the start of the text
  const TokenType type = tokenizer_.type(id);
  if (type == TokenType::control || type == TokenType::unknown) {
    at_prefix_ = tokenizer_.adds_prefix_after_control();
    return bytes;
  }
  // A byte token <0x20> at the start is part of the text and not the prefix (sentencepiece,
  // src/sentencepiece_processor.cc, Decode).
  if (at_prefix_ && bytes[0] == ' ' && type != TokenType::byte) bytes.remove_prefix(1);
  at_prefix_ = false;
  return bytes;
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special, bool at_start)
    : tokenizer_(std::move(tokenizer)), bytes_(*tokenizer_, special, at_start) {}

std::string StreamDecoder::push(TokenId id) {
  pending_ += bytes_.next(id);
  std::string text;
  const std::size_t incomplete = append_well_formed(pending_, text);
  pending_.erase(0, pending_.size() - incomplete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text(pending_.empty() ? std::string_view() : kReplacementCharacter);
  pending_.clear();
  return text;
}

}  // namespace cria
