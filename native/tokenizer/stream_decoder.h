// Turns a stream of tokens into text that never holds half a character.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace cria {

/// The bytes of tokens in running text, without SentencePiece's dummy-prefix spaces.
class TextBytes {
 public:
  /// `tokenizer` must outlive this.
  TextBytes(const Tokenizer& tokenizer, bool special, bool at_start)
      : tokenizer_(tokenizer), special_(special), at_prefix_(at_start && tokenizer.adds_space_prefix()) {}

  std::string_view next(TokenId id);

 private:
  const Tokenizer& tokenizer_;
  bool special_;
  bool at_prefix_;  // a space would be the dummy prefix
};

class StreamDecoder {
 public:
  /// `at_start`: the stream begins the text (SentencePiece's dummy-prefix space is dropped), rather than
  /// continuing a prompt.
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special, bool at_start);

  /// Text that became complete with this token; may be empty. Bytes that can no longer become a character are
  /// U+FFFD.
  std::string push(TokenId id);
  /// What is left at the end: U+FFFD for an incomplete character, else empty.
  /// All that push() and finish() returned is what Tokenizer::decode gives for the same ids.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TextBytes bytes_;
  std::string pending_;  // an incomplete UTF-8 sequence, at most 3 bytes
};

}  // namespace cria
