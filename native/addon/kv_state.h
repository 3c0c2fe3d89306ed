// model.saveState() and model.restoreState(): a task of its own reads or writes the file, the engine thread
// reads or writes the cache.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "addon/events.h"
#include "engine/engine.h"
#include "io/kv_state_file.h"

namespace cria {

/// The parts of a model that both need.
struct StateTarget {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<RequestCallbacks> callbacks;
  KvStateHeader header;
  std::uint32_t vocab_size = 0;
  std::int32_t context_length = 0;
  std::vector<std::uint64_t> adapter_fingerprints;
};

// Both return a NativeTask<NativeStateFile>.
Napi::Object save_state(Napi::Env env, const StateTarget& target, std::string path, SaveStateRequest request);
Napi::Object restore_state(Napi::Env env, const StateTarget& target, std::string path, AdapterSet adapters);

}  // namespace cria
