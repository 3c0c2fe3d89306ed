// Lookup by name in lists of untrusted names: sorted positions, which no choice of names makes slow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace cria {

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
