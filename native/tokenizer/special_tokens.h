// Finds the spellings of special tokens (control, user-defined) in text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/vocabulary.h"

namespace cria {

/// A byte trie: the cost of a search does not depend on the number of spellings.
class SpellingMatcher {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t length = 0;  // 0: no match
    TokenId id = 0;
  };

  SpellingMatcher() = default;
  /// Keeps the lowest id of equal spellings and ignores empty ones.
  explicit SpellingMatcher(std::vector<std::pair<std::string_view, TokenId>> spellings);

  bool empty() const noexcept { return nodes_.empty(); }
  /// Whether some spelling begins with this byte.
  bool begins(char c) const noexcept { return roots_[static_cast<unsigned char>(c)]; }
  /// The longest match that begins at `position`.
  Match longest_at(std::string_view text, std::size_t position) const noexcept;
  /// The leftmost match at or after `position`, the longest one there; without a match {text.size(), 0, 0}.
  Match find(std::string_view text, std::size_t position) const noexcept;

 private:
  struct Node {
    std::uint32_t first_edge;  // in edges_, sorted by byte
    std::uint32_t edges;
    TokenId id;  // kNone: no spelling ends here
  };
  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };
  static constexpr TokenId kNone = 0xffffffff;
  static constexpr std::uint32_t kNoNode = 0xffffffff;

  std::uint32_t child(std::uint32_t node, char c) const noexcept;

  std::array<bool, 256> roots_{};
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

}  // namespace cria
