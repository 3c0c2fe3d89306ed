#include "addon/model.h"

#include <cmath>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "addon/tasks.h"
#include "addon/tokenizer.h"

namespace cria {
namespace {

/// What a model object is made from; handed to the constructor through an External.
struct Parts {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<RequestCallbacks> callbacks;
  Napi::Object info, tokenizer;
};

Napi::Object info_to_js(Napi::Env env, const LoadedModel& loaded, const LoadOptions& options) {
  const ModelConfig& config = loaded.decoder->config();
  const BackendInfo& backend = loaded.decoder->backend().info();
  const ModelWeights& weights = loaded.decoder->weights();
  Napi::Object o = Napi::Object::New(env);
  const auto number = [&](const char* name, auto value) {
    o.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  const auto text = [&](const char* name, const std::string& value) {
    o.Set(name, Napi::String::New(env, value));
  };
  text("path", options.path);
  text("name", config.name);
  text("architecture", config.architecture);
  number("fileBytes", loaded.file_bytes);
  Napi::Object types = Napi::Object::New(env);
  for (const auto& [type, bytes] : loaded.bytes_by_type)
    types.Set(type, Napi::Number::New(env, static_cast<double>(bytes)));
  o.Set("tensorTypes", types);
  number("parameters", weights.parameters);
  number("vocabSize", config.vocab_size);
  number("hidden", config.hidden);
  number("layers", config.n_layers);
  number("heads", config.n_heads);
  number("kvHeads", config.n_kv_heads);
  number("headDim", config.head_dim);
  number("ffnHidden", config.ffn_hidden);
  number("contextLength", loaded.engine.context_length);
  number("trainedContextLength", config.context_length);
  number("ropeBase", config.rope_base);
  text("device", backend.device);
  text("deviceReason", backend.device_reason);
  text("isa", backend.isa);
  number("threads", backend.threads);
  text("kvDtype", options.kv_dtype == DType::f32 ? "f32" : "f16");
  number("kvPages", loaded.engine.n_pages);
  number("kvPageTokens", backend.page_tokens);
  number("kvBytes", loaded.kv_bytes);
  number("weightBytes", weights.bytes);
  number("loadMs", loaded.load_ms);
  return o;
}

SamplingParams as_sampling(const Napi::Object& o) {
  SamplingParams p;
  p.temperature = as_number(o.Get("temperature"), "temperature");
  p.top_k = static_cast<std::int32_t>(as_integer(o.Get("topK"), "topK", 0, INT32_MAX));
  p.top_p = as_number(o.Get("topP"), "topP");
  p.min_p = as_number(o.Get("minP"), "minP");
  p.typical_p = as_number(o.Get("typicalP"), "typicalP");
  p.repetition_penalty = as_number(o.Get("repetitionPenalty"), "repetitionPenalty");
  p.frequency_penalty = as_number(o.Get("frequencyPenalty"), "frequencyPenalty");
  p.presence_penalty = as_number(o.Get("presencePenalty"), "presencePenalty");
  p.penalty_window =
      static_cast<std::int32_t>(as_integer(o.Get("penaltyWindow"), "penaltyWindow", -1, INT32_MAX));
  p.seed = as_uint64(o.Get("seed"), "seed");
  p.logprobs = static_cast<std::int32_t>(as_integer(o.Get("logprobs"), "logprobs", -1, INT32_MAX));
  const Napi::Value bias = o.Get("logitBias");
  if (!bias.IsArray()) throw_argument("logitBias", "an array of [id, bias] pairs");
  const auto pairs = bias.As<Napi::Array>();
  for (std::uint32_t i = 0; i < pairs.Length(); i++) {
    const std::string at = "logitBias[" + std::to_string(i) + "]";
    const Napi::Value item = pairs.Get(i);
    if (!item.IsArray()) throw_argument(at, "an [id, bias] pair");
    const auto pair = item.As<Napi::Array>();
    p.logit_bias.emplace_back(static_cast<std::uint32_t>(as_integer(pair.Get(0u), at + "[0]", 0, UINT32_MAX)),
                              static_cast<float>(as_number(pair.Get(1u), at + "[1]")));
  }
  return p;
}

GenerateRequest as_request(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "request");
  GenerateRequest r;
  if (o.Get("prompt").IsTypedArray())
    r.prompt = as_ids(o.Get("prompt"), "prompt");
  else
    r.prompt = PromptText{as_text_pieces(o.Get("prompt"), "prompt"), as_optional_bool(o.Get("bos"), "bos")};
  r.max_tokens = static_cast<std::int32_t>(as_integer(o.Get("maxTokens"), "maxTokens", -1, INT32_MAX));
  r.stop = as_strings(o.Get("stop"), "stop");
  r.stop_tokens = as_ids(o.Get("stopTokens"), "stopTokens");
  r.ignore_eos = as_bool(o.Get("ignoreEos"), "ignoreEos");
  r.show_special = as_bool(o.Get("showSpecial"), "showSpecial");
  r.starts_text = as_bool(o.Get("startsText"), "startsText");
  r.sampling = as_sampling(as_object(o.Get("sampling"), "sampling"));
  return r;
}

}  // namespace

LoadOptions as_load_options(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "options");
  LoadOptions options;
  options.path = as_string(o.Get("path"), "path");
  options.backend.device = as_string(o.Get("device"), "device");
  options.backend.threads = static_cast<int>(as_integer(o.Get("threads"), "threads", 0, 1024));
  options.context_length = as_integer(o.Get("contextLength"), "contextLength", 0, INT32_MAX);
  options.kv_memory =
      static_cast<std::uint64_t>(as_integer(o.Get("kvMemory"), "kvMemory", 0, std::int64_t{1} << 50));
  const std::string kv = as_string(o.Get("kvDtype"), "kvDtype");
  if (kv != "f16" && kv != "f32") throw_argument("kvDtype", "'f16' or 'f32'");
  options.kv_dtype = kv == "f32" ? DType::f32 : DType::f16;
  options.prefill_chunk =
      static_cast<std::int32_t>(as_integer(o.Get("prefillChunk"), "prefillChunk", 0, 1 << 20));
  options.mmap = as_bool(o.Get("mmap"), "mmap");
  return options;
}

Napi::Function JsModel::define(Napi::Env env) {
  return DefineClass(
      env, "NativeModel",
      {InstanceAccessor<&JsModel::info>("info"), InstanceAccessor<&JsModel::tokenizer>("tokenizer"),
       InstanceMethod<&JsModel::generate>("generate"), InstanceMethod<&JsModel::logits>("logits"),
       InstanceMethod<&JsModel::dispose>("dispose")});
}

Napi::Object JsModel::create(Napi::Env env, LoadedModel&& loaded, const LoadOptions& options) {
  const std::shared_ptr<Environment>& environment = Environment::of(env);
  Parts parts;
  parts.info = info_to_js(env, loaded, options);
  parts.tokenizer = JsTokenizer::create(env, loaded.tokenizer);
  parts.callbacks = std::make_shared<RequestCallbacks>(environment->js);
  parts.engine = std::make_shared<Engine>(std::move(loaded.decoder), loaded.tokenizer, loaded.engine,
                                          parts.callbacks);
  environment->engines.emplace(parts.engine, parts.callbacks);
  return environment->model_class.New({Napi::External<Parts>::New(env, &parts)});
}

JsModel::JsModel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsModel>(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal()) throw_argument("NativeModel", "to be made by loadModel()");
    const Parts& parts = *info[0].As<Napi::External<Parts>>().Data();
    environment_ = Environment::of(info.Env());
    engine_ = parts.engine;
    callbacks_ = parts.callbacks;
    info_ = Napi::Persistent(parts.info);
    tokenizer_ = Napi::Persistent(parts.tokenizer);
  });
}

// Collected without dispose(): stop the engine elsewhere, since a step may take a while.
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
    // Shared, because a handler is copied while it runs; both copies live and die on the JS thread.
    const auto on_events =
        std::make_shared<Napi::FunctionReference>(Napi::Persistent(as_function(info[1], "onEvents")));
    const RequestId id = engine_->submit(std::move(request));
    callbacks_->add(env, id, [on_events](Napi::Env e, std::vector<Event>&& events) {
      Napi::Array array = Napi::Array::New(e, events.size());
      for (std::uint32_t i = 0; i < events.size(); i++) array.Set(i, event_to_js(e, events[i]));
      on_events->Call({array});
    });
    Napi::Object generation = Napi::Object::New(env);
    generation.Set("cancel", Napi::Function::New(env, [engine = engine_, id](const Napi::CallbackInfo&) {
                     engine->cancel(id);
                   }));
    return generation;
  });
}

Napi::Value JsModel::logits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const RequestId id = engine_->submit(LogitsRequest{as_ids(info[0], "ids")});
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
