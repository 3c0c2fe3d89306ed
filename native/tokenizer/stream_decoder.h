// Turns a stream of tokens into text that never holds half a character.
#pragma once

#include <memory>
#include <string>

#include "tokenizer/tokenizer.h"

namespace cria {

class StreamDecoder {
 public:
  /// `at_start`: the stream begins the text (SentencePiece's dummy-prefix space is dropped), rather than continuing a prompt.
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special, bool at_start);

  /// Text that became complete with this token; may be empty. Bytes that can no longer become a character are U+FFFD.
  std::string push(TokenId id);
  /// What is left at the end: U+FFFD for an incomplete character, else empty.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string pending_;  // an incomplete UTF-8 sequence, at most 3 bytes
  bool special_;
  bool at_start_;
};

}  // namespace cria
