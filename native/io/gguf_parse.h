// The parser of one GGUF file (a whole model or one part of a split), and its limits for untrusted files.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "io/gguf.h"

namespace cria {

// Limits beyond the needs of any real file: the largest vocabularies take about 15 MiB of header, the largest
// models have about 2,000 tensors. They bound the memory and time that a hostile file can cost.
inline constexpr std::uint64_t kMaxGgufHeaderBytes = std::uint64_t{32} << 20;
inline constexpr std::uint64_t kMaxGgufMetadata = 1 << 16;       // key-value pairs
inline constexpr std::uint64_t kMaxGgufTensors = 1 << 16;        // in all parts together
inline constexpr std::uint64_t kMaxGgufArrayElements = 1 << 22;  // in one metadata array
inline constexpr std::uint64_t kMaxGgufAlignment = 1 << 20;

/// Reads the metadata and the tensor descriptions of one file, and checks everything that does not depend on
/// other files.
GgufPart parse_gguf_part(const File& file, std::uint32_t file_index);

/// Opens and checks the other parts where `first`, read from `file`, is part of a split. Returns the parts in
/// order and their files in `files`; `first` alone where it is a whole model.
std::vector<GgufPart> join_gguf_split(std::shared_ptr<const File> file, GgufPart first,
                                      const FileOpener& open_part,
                                      std::vector<std::shared_ptr<const File>>* files);

/// Positions of `items` sorted by name; equal names keep their order. `name_of_item(item)` returns a
/// string_view.
template <typename Items, typename NameOf>
std::vector<std::uint32_t> sorted_by_name(const Items& items, NameOf name_of_item) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const std::string_view name_a = name_of_item(items[a]), name_b = name_of_item(items[b]);
    return name_a != name_b ? name_a < name_b : a < b;
  });
  return order;
}

/// The positions of two items of the same name, given the order of sorted_by_name(); nothing where names are
/// unique.
template <typename Items, typename NameOf>
std::optional<std::pair<std::uint32_t, std::uint32_t>> first_duplicate(
    const Items& items, const std::vector<std::uint32_t>& order, NameOf name_of_item) {
  const auto at = std::adjacent_find(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return name_of_item(items[a]) == name_of_item(items[b]);
  });
  if (at == order.end()) return std::nullopt;
  return std::pair(at[0], at[1]);
}

}  // namespace cria
