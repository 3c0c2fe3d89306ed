#include "addon/model.h"

#include <cmath>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "addon/requests.h"
#include "addon/tasks.h"
#include "addon/tokenizer.h"

namespace cria {
namespace {

/// The parts of a model object, passed to its constructor through an External.
struct Parts {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<RequestCallbacks> callbacks;
  StateTarget state_target;
  Napi::Object info, tokenizer;
};

template <class Number>
void set_number(Napi::Object& o, const char* name, Number value) {
  o.Set(name, Napi::Number::New(o.Env(), static_cast<double>(value)));
}

Napi::Object stats_to_js(Napi::Env env, const EngineStats& stats) {
  Napi::Object o = Napi::Object::New(env);
  const auto number = [&](const char* name, auto value) { set_number(o, name, value); };
  number("running", stats.running);
  number("waiting", stats.waiting);
  number("paused", stats.paused);
  number("pages", stats.pages);
  number("pagesUsed", stats.pages_used);
  number("pagesShared", stats.pages_shared);
  number("pagesCached", stats.pages_cached);
  number("pagesFree", stats.pages_free);
  number("pageTokens", stats.page_tokens);
  number("promptTokensPerSecond", stats.prompt_tokens_per_second);
  number("generatedTokensPerSecond", stats.generated_tokens_per_second);
  number("finished", stats.finished);
  number("failed", stats.failed);
  number("cancelled", stats.cancelled);
  number("promptTokens", stats.prompt_tokens);
  number("cachedTokens", stats.cached_tokens);
  number("generatedTokens", stats.generated_tokens);
  number("preemptions", stats.preemptions);
  number("steps", stats.steps);
  number("lastStepMs", stats.last_step_ms);
  number("longestStepMs", stats.longest_step_ms);
  return o;
}

Napi::Object info_to_js(Napi::Env env, const LoadedModel& loaded, const LoadOptions& options) {
  const ModelConfig& config = loaded.decoder->config();
  const BackendInfo& backend = loaded.decoder->backend().info();
  const ModelWeights& weights = loaded.decoder->weights();
  Napi::Object o = Napi::Object::New(env);
  const auto number = [&](const char* name, auto value) { set_number(o, name, value); };
  const auto text = [&](const char* name, const std::string& value) {
    o.Set(name, Napi::String::New(env, value));
  };
  text("path", options.path);
  text("name", config.name);
  text("architecture", config.architecture);
  number("fileBytes", loaded.file_bytes);
  Napi::Object types = Napi::Object::New(env);
  for (const auto& [type, bytes] : loaded.bytes_by_type) set_number(types, type.c_str(), bytes);
  o.Set("tensorTypes", types);
  number("parameters", weights.parameters);
  number("vocabSize", config.vocab_size);
  number("hidden", config.hidden);
  number("layers", config.n_layers);
  number("heads", config.n_heads);
  number("kvHeads", config.n_kv_heads);
  number("headDim", config.head_dim);
  number("ffnHidden", config.ffn_hidden);
  number("experts", config.n_experts);
  number("expertsUsed", config.n_experts_used);
  number("contextLength", loaded.engine.context_length);
  number("trainedContextLength", config.context_length);
  number("ropeBase", config.rope_base);
  text("device", backend.device);
  text("deviceReason", backend.device_reason);
  number("gpuLayers", backend.gpu_layers);
  text("isa", backend.isa);
  number("threads", backend.threads);
  text("kvDtype", options.kv_dtype == DType::f32 ? "f32" : "f16");
  number("kvPages", loaded.engine.n_pages);
  number("kvPageTokens", backend.page_tokens);
  number("kvBytes", loaded.kv_bytes);
  number("weightBytes", weights.bytes);
  number("loadMs", loaded.load_ms);
  o.Set("warnings", strings_to_js(env, loaded.warnings));
  return o;
}

Napi::Array adapters_to_js(Napi::Env env, const std::vector<Adapter>& adapters, const LoadOptions& options) {
  Napi::Array array = Napi::Array::New(env);
  for (std::size_t i = 0; i < adapters.size(); i++) {
    const AdapterInfo& info = adapters[i].info;
    Napi::Object o = Napi::Object::New(env);
    o.Set("path", Napi::String::New(env, info.path));
    o.Set("name", Napi::String::New(env, info.name));
    o.Set("format", Napi::String::New(env, info.format));
    set_number(o, "scale", options.adapters.at(i).scale);
    set_number(o, "rank", info.rank);
    set_number(o, "parameters", info.parameters);
    set_number(o, "bytes", info.bytes);
    array.Set(static_cast<std::uint32_t>(i), o);
  }
  return array;
}

}  // namespace

Napi::Function JsModel::define(Napi::Env env) {
  return DefineClass(
      env, "NativeModel",
      {InstanceAccessor<&JsModel::info>("info"), InstanceAccessor<&JsModel::tokenizer>("tokenizer"),
       InstanceMethod<&JsModel::generate>("generate"), InstanceMethod<&JsModel::logits>("logits"),
       InstanceMethod<&JsModel::stats>("stats"), InstanceMethod<&JsModel::save_state>("saveState"),
       InstanceMethod<&JsModel::restore_state>("restoreState"),
       InstanceMethod<&JsModel::dispose>("dispose")});
}

Napi::Object JsModel::create(Napi::Env env, LoadedModel&& loaded, const LoadOptions& options) {
  const std::shared_ptr<Environment>& environment = Environment::of(env);
  Parts parts;
  const std::vector<Adapter>& adapters = loaded.decoder->weights().adapters;
  parts.info = info_to_js(env, loaded, options);
  parts.info.Set("adapters", adapters_to_js(env, adapters, options));
  for (const Adapter& adapter : adapters)
    parts.state_target.adapter_fingerprints.push_back(adapter.info.fingerprint);
  parts.tokenizer = JsTokenizer::create(env, loaded.tokenizer);
  parts.callbacks = std::make_shared<RequestCallbacks>(environment->js);
  const std::uint32_t vocab_size = loaded.decoder->config().vocab_size;
  parts.engine =
      std::make_shared<Engine>(std::move(loaded.decoder), loaded.tokenizer, loaded.engine, parts.callbacks);
  parts.state_target.engine = parts.engine;
  parts.state_target.callbacks = parts.callbacks;
  parts.state_target.header = loaded.state_header;
  parts.state_target.vocab_size = vocab_size;
  parts.state_target.context_length = loaded.engine.context_length;
  environment->engines.emplace(parts.engine, parts.callbacks);
  return environment->model_class.New({Napi::External<Parts>::New(env, &parts)});
}

JsModel::JsModel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsModel>(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal()) throw_argument("NativeModel", "an object made by loadModel()");
    const Parts& parts = *info[0].As<Napi::External<Parts>>().Data();
    environment_ = Environment::of(info.Env());
    engine_ = parts.engine;
    callbacks_ = parts.callbacks;
    state_target_ = parts.state_target;
    info_ = Napi::Persistent(parts.info);
    tokenizer_ = Napi::Persistent(parts.tokenizer);
  });
}

// When it is collected without dispose(), another thread stops the engine: a step may take a while.
JsModel::~JsModel() {
  if (!environment_ || environment_->closed || !disposal_.IsEmpty()) return;
  environment_->engines.erase(engine_);
  try {
    environment_->executor.run_long([engine = engine_] { engine->stop(); });
  } catch (...) {
    engine_->stop();
  }
}

Napi::Value JsModel::info(const Napi::CallbackInfo&) { return info_.Value(); }
Napi::Value JsModel::tokenizer(const Napi::CallbackInfo&) { return tokenizer_.Value(); }

Napi::Value JsModel::generate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    GenerateRequest request = as_request(info[0]);
    // Shared, because dispatch() copies a handler before it calls it. Both copies stay on the JS thread.
    const auto on_events =
        std::make_shared<Napi::FunctionReference>(Napi::Persistent(as_function(info[1], "onEvents")));
    const RequestId id = engine_->submit(std::move(request));
    callbacks_->add(env, id, [on_events](Napi::Env e, std::vector<Event>&& events) {
      Napi::Array array = Napi::Array::New(e, events.size());
      for (std::uint32_t i = 0; i < events.size(); i++) array.Set(i, event_to_js(e, events[i]));
      on_events->Call({array});
    });
    Napi::Object generation = Napi::Object::New(env);
    const auto method = [&](const char* name, std::function<void(Napi::Env)> call) {
      generation.Set(name, Napi::Function::New(env, [call = std::move(call)](const Napi::CallbackInfo& i) {
                       call(i.Env());
                     }));
    };
    // A paused request has no reader, so it must not keep the process alive.
    const auto pause = [engine = engine_, callbacks = callbacks_, id](Napi::Env e, bool paused) {
      engine->set_paused(id, paused);
      callbacks->set_held(e, id, !paused);
    };
    method("cancel", [engine = engine_, id](Napi::Env) { engine->cancel(id); });
    method("pause", [pause](Napi::Env e) { pause(e, true); });
    method("resume", [pause](Napi::Env e) { pause(e, false); });
    return generation;
  });
}

Napi::Value JsModel::logits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const RequestId id = engine_->submit(LogitsRequest{as_ids(info[0], "ids"), as_adapters(info[1])});
    const auto deferred = Napi::Promise::Deferred::New(env);
    callbacks_->add(env, id, [deferred](Napi::Env e, std::vector<Event>&& events) {
      if (const auto* result = std::get_if<LogitsEvent>(&events.back()))
        deferred.Resolve(floats_to_js(e, result->logits));
      else if (const auto* error = std::get_if<Error>(&events.back()))
        deferred.Reject(to_js_error(e, *error).Value());
    });
    return task_object(env, deferred.Promise(), [engine = engine_, id] { engine->cancel(id); });
  });
}

Napi::Value JsModel::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value { return stats_to_js(env, engine_->stats()); });
}

Napi::Value JsModel::save_state(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return cria::save_state(env, state_target_, as_string(info[0], "path"),
                            {.prompt = as_prompt(info[1], info[2]), .adapters = as_adapters(info[3])});
  });
}

Napi::Value JsModel::restore_state(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return cria::restore_state(env, state_target_, as_string(info[0], "path"), as_adapters(info[1]));
  });
}

Napi::Value JsModel::dispose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    if (disposal_.IsEmpty()) {
      const Napi::Object task = start_task(
          env, TaskLength::long_work,
          [engine = engine_](const CancelFlag&) {
            engine->stop();
            return true;
          },
          [](Napi::Env e, bool) -> Napi::Value { return e.Undefined(); },
          [engine = engine_](Environment& environment) { environment.engines.erase(engine); });
      disposal_ = Napi::Persistent(task);
    }
    return disposal_.Value().Get("promise");
  });
}

}  // namespace cria
