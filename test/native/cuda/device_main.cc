// Runs the tests of CUDA kernels on a device. Without one, says so and exits with 77, which ctest counts as
// skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "kernels/cuda/runtime.h"

int main(int argc, char** argv) {
  const cria::cuda::DriverInfo driver = cria::cuda::probe_driver();
  if (driver.state != cria::cuda::DriverState::ready) {
    std::printf("skipped: %s\n", driver.message.c_str());
    return 77;
  }
  std::printf("device: %s\n", cria::cuda::device_properties(0).name.c_str());
  return doctest::Context(argc, argv).run();
}
