// The CUDA backend as a whole, on the emulated device: whole requests against the CPU's.
#include <chrono>
#include <cstdio>

#include "engine/engine_fixture.h"

using namespace cria;
using namespace cria::test;

TEST_CASE("greedy text") {
  Fixture f;
  const auto begin = std::chrono::steady_clock::now();
  const auto result = f.sink->wait(f.engine->submit(story(12)));
  std::printf("%s\n%.1f ms\n", result.text.c_str(),
              std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  if (result.error) std::printf("%s\n", result.error->what());
  CHECK(result.tokens.size() == 12);
}
