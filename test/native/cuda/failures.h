// Shared by the backend's tests: expected errors, which runtime calls fail, and how much runs under a
// sanitizer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/error.h"
#include "cuda_emulation/fiber.h"  // CRIA_ASAN

namespace cria::test {

/// Every call in turn. Under AddressSanitizer, which is ten times slower, every seventh.
#ifdef CRIA_ASAN
inline constexpr std::uint32_t kCallStep = 7;
#else
inline constexpr std::uint32_t kCallStep = 1;
#endif

inline constexpr bool kSanitized = kCallStep > 1;

inline std::optional<Error> error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return std::nullopt;
}

}  // namespace cria::test
