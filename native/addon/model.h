// NativeModel of lib/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/environment.h"
#include "addon/events.h"
#include "addon/kv_state.h"
#include "engine/loader.h"

namespace cria {

class JsModel : public Napi::ObjectWrap<JsModel> {
 public:
  static Napi::Function define(Napi::Env env);
  /// Starts the engine of a loaded model.
  static Napi::Object create(Napi::Env env, LoadedModel&& loaded, const LoadOptions& options);
  explicit JsModel(const Napi::CallbackInfo& info);
  ~JsModel() override;

 private:
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value tokenizer(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value save_state(const Napi::CallbackInfo& info);
  Napi::Value restore_state(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<RequestCallbacks> callbacks_;
  StateTarget state_target_;
  Napi::ObjectReference info_, tokenizer_, disposal_;
};

}  // namespace cria
