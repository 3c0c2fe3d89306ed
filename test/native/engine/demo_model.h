// The project's demo model, for tests that need a whole one.
#pragma once

#include <string>

#include "engine/loader.h"

namespace cria::test {

inline const std::string kDemoModel = std::string(CRIA_MODELS) + "/demo.gguf";

/// The device that the engine's tests run on: CRIA_TEST_DEVICE.
inline const char* test_device() {
#ifdef CRIA_TEST_DEVICE
  return CRIA_TEST_DEVICE;
#else
  return "cpu";
#endif
}

inline LoadedModel load_demo(int threads, DType kv_dtype = DType::f16, std::int32_t prefill_chunk = 0,
                             std::int64_t context_length = 0) {
  LoadOptions options;
  options.path = kDemoModel;
  options.backend = {test_device(), threads};
  options.kv_dtype = kv_dtype;
  options.prefill_chunk = prefill_chunk;
  options.context_length = context_length;
  const CancelFlag never;
  return load_model(options, nullptr, never);
}

}  // namespace cria::test
