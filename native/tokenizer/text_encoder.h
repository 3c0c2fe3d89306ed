// The part of a tokenizer that differs between the kinds: plain text -> ids.
#pragma once

#include <string_view>

#include "tokenizer/scratch.h"

namespace cria {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Appends the ids of `text` to `run.out`: well-formed UTF-8, not empty, in which no control token is
  /// looked for.
  virtual void encode(std::string_view text, EncodeRun& run) const = 0;
};

/// Limits what a hostile file can make the tables cost; real vocabularies have two or three pairs per token.
inline constexpr std::size_t kMaxMergePairs = std::size_t{1} << 21;

}  // namespace cria
