#include "addon/errors.h"

#include <string>

namespace cria {

Napi::Object details_to_js(Napi::Env env, const Error& error) {
  Napi::Object details = Napi::Object::New(env);
  for (const auto& [name, value] : error.details()) {
    if (value.is_number())
      details.Set(name, Napi::Number::New(env, value.number()));
    else
      details.Set(name, Napi::String::New(env, value.text()));
  }
  return details;
}

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  const Napi::Error js = Napi::Error::New(env, error.what());
  js.Value().Set("code", Napi::String::New(env, std::string(error_code_name(error.code()))));
  js.Value().Set("details", details_to_js(env, error));
  return js;
}

}  // namespace cria
