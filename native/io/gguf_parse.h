// The parser of one GGUF file (a whole model or one part of a split) and the limits that hold for untrusted
// ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace cria {

// Limits beyond what any real file needs (the largest vocabularies take some 15 MiB of header, the largest
// models have some 2,000 tensors). They bound the memory and time that a hostile file can cost.
inline constexpr std::uint64_t kMaxGgufHeaderBytes = std::uint64_t{32} << 20;
inline constexpr std::uint64_t kMaxGgufMetadata = 1 << 16;       // key-value pairs
inline constexpr std::uint64_t kMaxGgufTensors = 1 << 16;        // of all parts together
inline constexpr std::uint64_t kMaxGgufArrayElements = 1 << 22;  // of one metadata array
inline constexpr std::uint64_t kMaxGgufAlignment = 1 << 20;

/// Reads metadata and tensor descriptions of one file and checks all that can be checked without another one.
GgufPart parse_gguf_part(const File& file, std::uint32_t file_index);

/// Joins what `first` says with the other parts of its split, when it belongs to one. `first` comes from
/// `file`. Returns the parts in order, with their files in `files`.
std::vector<GgufPart> join_gguf_split(std::shared_ptr<const File> file, GgufPart first,
                                      const FileOpener& open_part,
                                      std::vector<std::shared_ptr<const File>>* files);

/// Positions of `items` sorted by name; equal names keep their order. `name_of_item(item)` gives a
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

}  // namespace cria
