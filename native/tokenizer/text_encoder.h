// Plain text -> ids: the part of a tokenizer that depends on its kind.
#pragma once

#include <string_view>

#include "tokenizer/scratch.h"

namespace cria {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Appends the ids of `text`, which is well-formed UTF-8 and not empty, to `run.out`. Does not look for
  /// control tokens. `prefix`: whether SentencePiece's dummy prefix stands before the text; BPE ignores it.
  virtual void encode(std::string_view text, bool prefix, EncodeRun& run) const = 0;
};

/// Bounds the memory that a hostile file can cost; real vocabularies have two or three pairs per token.
inline constexpr std::size_t kMaxMergePairs = std::size_t{1} << 21;

}  // namespace cria
