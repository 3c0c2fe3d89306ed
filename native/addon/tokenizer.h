// NativeTokenizer of lib/native.ts.
#pragma once

#include <napi.h>

#include <memory>

#include "engine/request.h"
#include "tokenizer/tokenizer.h"

namespace cria {

class JsTokenizer : public Napi::ObjectWrap<JsTokenizer> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, std::shared_ptr<const Tokenizer> tokenizer);
  explicit JsTokenizer(const Napi::CallbackInfo& info);

 private:
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value find(const Napi::CallbackInfo& info);
  Napi::Value spelling(const Napi::CallbackInfo& info);

  std::shared_ptr<const Tokenizer> tokenizer_;
};

/// NativeText: an array of [text, special] pairs.
std::vector<std::pair<std::string, bool>> as_text_pieces(const Napi::Value& value, const std::string& name);

}  // namespace cria
