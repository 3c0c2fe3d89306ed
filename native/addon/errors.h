// Native errors -> JavaScript errors with `code` and `details`. No other file converts them.
#pragma once

#include <napi.h>

#include "core/error.h"

namespace cria {

Napi::Object details_to_js(Napi::Env env, const Error& error);
Napi::Error to_js_error(Napi::Env env, const Error& error);

/// Runs the body of an N-API callback. Any exception becomes a JavaScript Error; none reaches std::terminate.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, current_error());
  }
}

}  // namespace cria
