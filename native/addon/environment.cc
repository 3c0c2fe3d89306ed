#include "addon/environment.h"

#include "addon/events.h"

namespace cria {

void Environment::shut_down() noexcept {
  if (closed) return;
  closed = true;
  js->close();
  for (const auto& flag : tasks) flag->cancel();
  for (const auto& [engine, callbacks] : engines) {
    engine->stop();
    callbacks->drop();
  }
  executor.join();
  kernels.reset();
  tasks.clear();
  engines.clear();
  progress.clear();
  model_class.Reset();
  tokenizer_class.Reset();
  tensor_class.Reset();
}

}  // namespace cria
