#include "tokenizer/special_tokens.h"

#include <algorithm>

namespace cria {

SpellingMatcher::SpellingMatcher(std::vector<std::pair<std::string_view, TokenId>> spellings) {
  std::erase_if(spellings, [](const auto& s) { return s.first.empty(); });
  if (spellings.empty()) return;
  std::sort(spellings.begin(), spellings.end());  // by spelling, then id
  // Breadth first. A node is a range of the sorted spellings with a common prefix of `depth` bytes; its
  // children are the sub-ranges by the next byte. The edges of a node are therefore adjacent and sorted.
  struct Range {
    std::size_t begin, end, depth;
  };
  std::vector<Range> ranges{{0, spellings.size(), 0}};
  nodes_.push_back({0, 0, kNone});
  for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
    auto [i, end, depth] = ranges[node];
    nodes_[node].first_edge = static_cast<std::uint32_t>(edges_.size());
    for (; i < end && spellings[i].first.size() == depth; ++i) {
      if (nodes_[node].id == kNone) nodes_[node].id = spellings[i].second;
    }
    while (i < end) {
      const char byte = spellings[i].first[depth];
      std::size_t j = i + 1;
      while (j < end && spellings[j].first[depth] == byte) ++j;
      edges_.push_back({static_cast<unsigned char>(byte), static_cast<std::uint32_t>(nodes_.size())});
      nodes_.push_back({0, 0, kNone});
      ranges.push_back({i, j, depth + 1});
      i = j;
    }
    nodes_[node].edges = static_cast<std::uint32_t>(edges_.size()) - nodes_[node].first_edge;
  }
  for (std::uint32_t e = 0; e < nodes_[0].edges; ++e) roots_[edges_[e].byte] = true;
}

std::uint32_t SpellingMatcher::child(std::uint32_t node, char c) const noexcept {
  const auto byte = static_cast<unsigned char>(c);
  const Edge* first = edges_.data() + nodes_[node].first_edge;
  const Edge* last = first + nodes_[node].edges;
  const Edge* edge =
      std::lower_bound(first, last, byte, [](const Edge& e, unsigned char b) { return e.byte < b; });
  return edge != last && edge->byte == byte ? edge->node : kNoNode;
}

SpellingMatcher::Match SpellingMatcher::longest_at(std::string_view text,
                                                   std::size_t position) const noexcept {
  Match match;
  if (empty()) return match;
  std::uint32_t node = 0;
  for (std::size_t i = position; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == kNoNode) break;
    if (nodes_[node].id != kNone) match = {position, i + 1 - position, nodes_[node].id};
  }
  return match;
}

SpellingMatcher::Match SpellingMatcher::find(std::string_view text, std::size_t position) const noexcept {
  for (; position < text.size(); ++position) {
    if (!begins(text[position])) continue;
    if (const Match match = longest_at(text, position); match.length > 0) return match;
  }
  return {text.size(), 0, 0};
}

}  // namespace cria
