// Amounts for messages.
#pragma once

#include <cstdint>
#include <string>

namespace cria {

/// "1536 MiB", rounded down.
inline std::string mib(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace cria
