// The demo model of the project, for tests that need a whole model.
#pragma once

#include <string>

#include "engine/loader.h"
#include "test_device.h"

namespace cria::test {

inline const std::string kDemoModel = std::string(CRIA_MODELS) + "/demo.gguf";

inline LoadedModel load_demo(int threads, DType kv_dtype = DType::f16, std::int32_t prefill_chunk = 0,
                             std::int64_t context_length = 0) {
  LoadOptions options;
  options.path = kDemoModel;
  options.backend = {kTestDevice, threads};
  options.kv_dtype = kv_dtype;
  options.prefill_chunk = prefill_chunk;
  options.context_length = context_length;
  const CancelFlag never;
  return load_model(options, nullptr, never);
}

}  // namespace cria::test
