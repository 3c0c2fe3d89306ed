// The device that a test program runs on: CRIA_TEST_DEVICE, which its CMake target defines.
#pragma once

#include <cstddef>
#include <string_view>

namespace cria::test {

#ifdef CRIA_TEST_DEVICE
inline constexpr const char* kTestDevice = CRIA_TEST_DEVICE;
#else
inline constexpr const char* kTestDevice = "cpu";
#endif

inline constexpr bool kOnCpu = std::string_view(kTestDevice) == "cpu";

/// A size for a test: where kernels are emulated, every token costs a hundred times as much.
constexpr int sized(int on_cpu, int elsewhere) { return kOnCpu ? on_cpu : elsewhere; }
constexpr std::size_t sized_count(int on_cpu, int elsewhere) {
  return static_cast<std::size_t>(sized(on_cpu, elsewhere));
}

}  // namespace cria::test
