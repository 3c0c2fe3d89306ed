// The addon's exports: NativeAddon of lib/native.ts.
#include <napi.h>

#include <memory>
#include <utility>

#include "addon/conversion.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/evaluation.h"
#include "addon/inspect.h"
#include "addon/kernels.h"
#include "addon/model.h"
#include "addon/progress.h"
#include "addon/requests.h"
#include "addon/tasks.h"
#include "addon/tokenizer.h"
#include "core/huge_memory.h"
#include "engine/loader.h"
#include "kernels/cpu/isa.h"

namespace cria {
namespace {

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
    const Progress progress(env, info[1]);
    return start_task(
        env, TaskLength::long_work,
        [options, progress](const CancelFlag& cancel) {
          return load_model(options, progress.report, cancel);
        },
        [options](Napi::Env e, LoadedModel&& loaded) -> Napi::Value {
          return JsModel::create(e, std::move(loaded), options);
        },
        [progress](Environment& at) { progress.release(at); });
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
  exports.Set("convertModel", Napi::Function::New(env, convert_model_task, "convertModel"));
  exports.Set("fileTypes", file_types_to_js(env));
  exports.Set("perplexity", Napi::Function::New(env, perplexity_task, "perplexity"));
  exports.Set("computeImatrix", Napi::Function::New(env, compute_imatrix_task, "computeImatrix"));
  exports.Set("kernels", kernels_to_js(env));
  return exports;
}

}  // namespace cria

static Napi::Object InitCria(Napi::Env env, Napi::Object exports) { return cria::init(env, exports); }
NODE_API_MODULE(cria, InitCria)
