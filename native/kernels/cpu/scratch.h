// Buffers that are kept from op to op, so that a step allocates nothing once they have grown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cria {

/// The buffer's data, with room for n elements. What it held may be lost.
template <class T>
T* ensure_size(std::vector<T>& buffer, std::int64_t n) {
  if (buffer.size() < static_cast<std::size_t>(n)) buffer.resize(static_cast<std::size_t>(n));
  return buffer.data();
}

}  // namespace cria
