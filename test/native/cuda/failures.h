// What the tests of the backend share: errors, which calls of the runtime are made to fail, and how much is
// done under a sanitizer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/error.h"
#include "cuda_emulation/fiber.h"  // CRIA_ASAN

namespace cria::test {

/// Each call in turn; under AddressSanitizer, which takes ten times as long and looks for other things, every
/// seventh.
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
