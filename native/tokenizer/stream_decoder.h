// Decodes a stream of tokens into text, never splitting a character.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace cria {

/// The bytes of tokens in running text, without SentencePiece's dummy prefixes.
class TextBytes {
 public:
  /// `tokenizer` must outlive this.
  TextBytes(const Tokenizer& tokenizer, bool special, bool at_start)
      : tokenizer_(tokenizer), special_(special), at_prefix_(at_start && tokenizer.adds_space_prefix()) {}

  std::string_view next(TokenId id);

 private:
  const Tokenizer& tokenizer_;
  bool special_;
  bool at_prefix_;  // a space here is the dummy prefix
};

class StreamDecoder {
 public:
  /// `at_start`: the stream is the start of a text, so SentencePiece's dummy prefix is dropped, rather than
  /// the continuation of a prompt.
  StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool special, bool at_start);

  /// The text that this token completes; may be empty. Bytes that cannot become a character are U+FFFD.
  std::string push(TokenId id);
  /// The rest: U+FFFD for an incomplete character, else empty. The results of push() and finish() together
  /// equal Tokenizer::decode of the same ids.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TextBytes bytes_;
  std::string pending_;  // an incomplete UTF-8 sequence, at most 3 bytes
};

}  // namespace cria
