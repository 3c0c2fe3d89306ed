// The addon's exports: NativeAddon of lib/native.ts.
#include <napi.h>

#include <chrono>
#include <memory>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/inspect.h"
#include "addon/kernels.h"
#include "addon/model.h"
#include "addon/requests.h"
#include "addon/tasks.h"
#include "addon/tokenizer.h"
#include "core/huge_memory.h"
#include "engine/loader.h"
#include "kernels/cpu/isa.h"

namespace cria {
namespace {

constexpr auto kProgressInterval = std::chrono::milliseconds(50);

/// Forwards the progress of a load to JavaScript at most once per kProgressInterval, and the final one
/// always.
LoadProgress progress_to_js(std::shared_ptr<JsThread> js, std::uint64_t callback) {
  using Clock = std::chrono::steady_clock;
  return [js = std::move(js), callback, last = Clock::time_point()](std::uint64_t loaded,
                                                                    std::uint64_t total) mutable {
    const Clock::time_point now = Clock::now();
    if (loaded < total && now - last < kProgressInterval) return;
    last = now;
    js->post([callback, loaded, total](Napi::Env env) {
      const auto& callbacks = Environment::of(env)->progress;
      const auto at = callbacks.find(callback);
      if (at == callbacks.end()) return;
      at->second.Call({Napi::Number::New(env, static_cast<double>(loaded)),
                       Napi::Number::New(env, static_cast<double>(total))});
    });
  };
}

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Object o = Napi::Object::New(env);
    o.Set("isa", choose_level().isa);
    Napi::Array levels = Napi::Array::New(env);
    for (const CpuKernels* level : runnable_levels())
      levels.Set(levels.Length(), Napi::String::New(env, level->isa));
    o.Set("isaLevels", levels);
    o.Set("physicalCores", Napi::Number::New(env, usable_cores()));
    o.Set("threads", Napi::Number::New(env, usable_cores()));
    return o;
  });
}

Napi::Value load_model_task(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const LoadOptions options = as_load_options(info[0]);
    const std::shared_ptr<Environment>& environment = Environment::of(env);
    std::uint64_t callback = 0;
    LoadProgress progress;
    if (!info[1].IsNull() && !info[1].IsUndefined()) {
      callback = environment->next_progress++;
      environment->progress.emplace(callback, Napi::Persistent(as_function(info[1], "onProgress")));
      progress = progress_to_js(environment->js, callback);
    }
    return start_task(
        env, TaskLength::long_work,
        [options, progress](const CancelFlag& cancel) { return load_model(options, progress, cancel); },
        [options](Napi::Env e, LoadedModel&& loaded) -> Napi::Value {
          return JsModel::create(e, std::move(loaded), options);
        },
        [callback](Environment& at) { at.progress.erase(callback); });
  });
}

Napi::Value load_tokenizer_task(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_task(
        info.Env(), TaskLength::long_work,
        [path = as_string(info[0], "path")](const CancelFlag&) { return load_tokenizer(path); },
        [](Napi::Env e, std::shared_ptr<const Tokenizer>&& tokenizer) -> Napi::Value {
          return JsTokenizer::create(e, std::move(tokenizer));
        });
  });
}

Napi::Value inspect_task(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_task(
        info.Env(), TaskLength::long_work,
        [path = as_string(info[0], "path")](const CancelFlag&) { return ModelSource::open(path); },
        [](Napi::Env e, std::unique_ptr<ModelSource>&& source) -> Napi::Value {
          return file_info_to_js(e, *source);
        });
  });
}

}  // namespace

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto environment = std::make_shared<Environment>(env);
  env.SetInstanceData(new std::shared_ptr<Environment>(environment));
  environment->model_class = Napi::Persistent(JsModel::define(env));
  environment->tokenizer_class = Napi::Persistent(JsTokenizer::define(env));
  env.AddCleanupHook([environment] { environment->shut_down(); });

  exports.Set("version", CRIA_VERSION);
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info, "cpuInfo"));
  exports.Set("loadModel", Napi::Function::New(env, load_model_task, "loadModel"));
  exports.Set("loadTokenizer", Napi::Function::New(env, load_tokenizer_task, "loadTokenizer"));
  exports.Set("inspect", Napi::Function::New(env, inspect_task, "inspect"));
  exports.Set("kernels", kernels_to_js(env));
  return exports;
}

}  // namespace cria

static Napi::Object InitCria(Napi::Env env, Napi::Object exports) { return cria::init(env, exports); }
NODE_API_MODULE(cria, InitCria)
