// model.saveState and model.restoreState: the file on a thread of its own, the cache on the engine's.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "addon/events.h"
#include "engine/engine.h"
#include "io/kv_state_file.h"

namespace cria {

/// What both need of a model.
struct StateTarget {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<RequestCallbacks> callbacks;
  KvStateHeader header;
  std::uint32_t vocab_size = 0;
  std::int32_t context_length = 0;
};

/// NativeTask<NativeStateFile>.
Napi::Object save_state(Napi::Env env, const StateTarget& target, std::string path, Prompt prompt);
Napi::Object restore_state(Napi::Env env, const StateTarget& target, std::string path);

}  // namespace cria
